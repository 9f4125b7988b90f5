package usertransform

import (
	"net/netip"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/geo"
)

// geolocator answers the function geolocation.
type geolocator struct{ places *geo.Database }

func openGeolocator(d connector.Deps, path string) (*geolocator, error) {
	file, err := d.File("transformations.geolocation_database", path)
	if err != nil {
		return nil, err
	}
	db, err := geo.Open(file)
	if err != nil {
		return nil, connector.Blame("transformations.geolocation_database", "name a MaxMind database of cities, as GeoLite2-City.mmdb", err)
	}
	return &geolocator{db}, nil
}

// find is the place of an address as JSON.
func (g *geolocator) find(ip netip.Addr) ([]byte, error) {
	p, err := g.places.Find(ip)
	return p.Append(nil), err
}
