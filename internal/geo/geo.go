// Package geo says where an address is, from a MaxMind database of cities (GeoLite2-City,
// GeoIP2-City and the like).
//
// What is found is what RudderStack writes into an event's context.geo: ip, city, country,
// region, postal, location ("latitude,longitude") and timezone, all texts and each empty when the
// database does not say; names are English.
//
// A database is read when it is opened, and does not change: a newer file is read by a reload.
package geo

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/oschwald/maxminddb-golang/v2"

	"github.com/weirdata/weir/internal/jsontext"
)

// maxFile bounds the bytes of a database.
const maxFile = 1 << 30

// Database finds places. Many goroutines may use it at once.
type Database struct{ reader *maxminddb.Reader }

// Open reads the database at path.
func Open(path string) (*Database, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read geolocation database: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("read geolocation database %s: it has %d bytes, more than the limit of %d", path, info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read geolocation database: %w", err)
	}
	reader, err := maxminddb.OpenBytes(text)
	if err != nil {
		return nil, fmt.Errorf("read geolocation database %s: it is no MaxMind database: %w", path, err)
	}
	return &Database{reader}, nil
}

// record is the part of a database's record that counts here.
type record struct {
	City struct {
		Names names `maxminddb:"names"`
	} `maxminddb:"city"`
	Country struct {
		Code string `maxminddb:"iso_code"`
	} `maxminddb:"country"`
	Subdivisions []struct {
		Names names `maxminddb:"names"`
	} `maxminddb:"subdivisions"`
	Postal struct {
		Code string `maxminddb:"code"`
	} `maxminddb:"postal"`
	Location struct {
		Latitude  *float64 `maxminddb:"latitude"`
		Longitude *float64 `maxminddb:"longitude"`
		TimeZone  string   `maxminddb:"time_zone"`
	} `maxminddb:"location"`
}

type names struct {
	English string `maxminddb:"en"`
}

// Place is where an address is.
type Place struct{ IP, City, Country, Region, Postal, Location, Timezone string }

// Find is where ip is. An address that is in no network of the database is at a place that is
// known by nothing but its ip.
func (d *Database) Find(ip netip.Addr) (Place, error) {
	p := Place{IP: ip.String()}
	var r record
	if err := d.reader.Lookup(ip.Unmap()).Decode(&r); err != nil {
		return p, fmt.Errorf("look up an address in the geolocation database: %w", err)
	}
	p.City, p.Country, p.Postal, p.Timezone = r.City.Names.English, r.Country.Code, r.Postal.Code, r.Location.TimeZone
	if len(r.Subdivisions) > 0 {
		p.Region = r.Subdivisions[0].Names.English
	}
	if l := r.Location; l.Latitude != nil && l.Longitude != nil {
		p.Location = fmt.Sprintf("%f,%f", *l.Latitude, *l.Longitude)
	}
	return p, nil
}

// Append appends p as a JSON object.
func (p Place) Append(dst []byte) []byte {
	for i, f := range [...]struct{ name, value string }{
		{"ip", p.IP}, {"city", p.City}, {"country", p.Country}, {"region", p.Region},
		{"postal", p.Postal}, {"location", p.Location}, {"timezone", p.Timezone},
	} {
		if i == 0 {
			dst = append(dst, '{')
		} else {
			dst = append(dst, ',')
		}
		dst = jsontext.AppendString(dst, f.name)
		dst = append(dst, ':')
		dst = jsontext.AppendString(dst, f.value)
	}
	return append(dst, '}')
}
