package httpclient

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// ErrPrivate is the error of a connection that is refused because its address is not public.
var ErrPrivate = errors.New("the address is not one of the public internet")

// refusePrivate looks at the address that a name has become, before it is connected to. except
// are the networks that may be reached nevertheless.
func refusePrivate(except []netip.Prefix) func(_, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("read address %s: %w", address, err)
		}
		ip := to.Addr().Unmap().WithZone("")
		if !Public(ip) && !slices.ContainsFunc(except, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			return ErrPrivate
		}
		return nil
	}
}

// notPublic are the networks beyond those that net/netip knows: of the registries of special
// addresses (RFC 6890 and its successors), what is not reached from everywhere.
var notPublic = prefixes(
	"0.0.0.0/8",       // this network
	"100.64.0.0/10",   // between carriers and their customers
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // relays from IPv6, deprecated
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"240.0.0.0/4",     // reserved, and broadcast

	"::/96",          // IPv4-compatible, deprecated; loopback and unspecified among them
	"64:ff9b:1::/48", // translation to IPv4 within a site: which address it means only the site knows
	"100::/64",       // discard
	"2001::/23",      // protocol assignments; tunnels through NAT (Teredo) among them
	"2001:db8::/32",  // documentation
	"3fff::/20",      // documentation
	"5f00::/16",      // segment routing within a domain
	"fec0::/10",      // site-local, deprecated
)

// embedding are the networks whose addresses stand for an IPv4 address, and where in the
// sixteen bytes that is.
var embedding = []struct {
	network netip.Prefix
	at      int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

func prefixes(texts ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		ps[i] = netip.MustParsePrefix(text)
	}
	return ps
}

// Public reports whether an address is one of the public internet, and so is the IPv4 address
// that it stands for, if it stands for one.
func Public(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	if ip.Is4() {
		return true
	}
	raw := ip.As16()
	for _, e := range embedding {
		if e.network.Contains(ip) && !Public(netip.AddrFrom4([4]byte(raw[e.at:e.at+4]))) {
			return false
		}
	}
	// ISATAP: an interface identifier that names the IPv4 address of its tunnel's end.
	if raw[8]&^2 == 0 && raw[9] == 0 && raw[10] == 0x5e && raw[11] == 0xfe {
		return Public(netip.AddrFrom4([4]byte(raw[12:16])))
	}
	return true
}
