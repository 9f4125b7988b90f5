package generatesource

import (
	"encoding/binary"
	"encoding/hex"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/weirdata/weir/internal/produce"
)

// maker appends message i, which has the time at. It may be called for any i, in any order.
type maker func(dst []byte, i int64, at time.Time) []byte

// makers makes the maker of each kind for a seed.
var makers = map[string]func(seed uint64) maker{
	"lessons":    lessons,
	"events":     diced(3, sdkEvent),
	"orders":     diced(4, order),
	"access_log": diced(5, logLine),
}

func kinds() []string { return slices.Sorted(maps.Keys(makers)) }

// mix spreads x over 64 bits, each x to another value (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// block is how many lesson events come from one generator of package produce. To begin
// anywhere, at most so many are made for nothing.
const block = 1000

func lessons(seed uint64) maker {
	var g *produce.Generator
	var next int64 // the event that g makes next
	var skipped []byte
	return func(dst []byte, i int64, at time.Time) []byte {
		if g == nil || i != next || i%block == 0 {
			g = produce.New(mix(mix(seed) + uint64(i/block)))
			for range i % block {
				skipped = g.Append(skipped[:0], at)
			}
		}
		next = i + 1
		return g.Append(dst, at)
	}
}

// dice are the random numbers of one message.
type dice struct {
	pcg rand.PCG
	*rand.Rand
}

// diced makes messages with dice that are thrown anew for each.
func diced(kind uint64, one func(dst []byte, d *dice, at time.Time) []byte) func(uint64) maker {
	return func(seed uint64) maker {
		d := &dice{}
		d.Rand = rand.New(&d.pcg)
		high := mix(mix(seed) + kind)
		return func(dst []byte, i int64, at time.Time) []byte {
			d.pcg.Seed(high, mix(uint64(i)))
			return one(dst, d, at)
		}
	}
}

func (d *dice) pick(from []string) string { return from[d.IntN(len(from))] }

// uuid appends a random UUID (version 4).
func (d *dice) uuid(dst []byte) []byte {
	var u [16]byte
	binary.BigEndian.PutUint64(u[:8], d.Uint64())
	binary.BigEndian.PutUint64(u[8:], d.Uint64())
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	for i, part := range [][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	return dst
}

// price appends an amount from 1.00 to 200.99.
func (d *dice) price(dst []byte) []byte {
	dst = strconv.AppendInt(dst, int64(1+d.IntN(200)), 10)
	cents := d.IntN(100)
	return append(dst, '.', byte('0'+cents/10), byte('0'+cents%10))
}

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

var (
	shopEvents = []string{"Product Viewed", "Product Viewed", "Product Viewed", "Product Added", "Product Added", "Checkout Started", "Order Completed"}
	pages      = []string{"/", "/products", "/products/42", "/cart", "/checkout", "/login", "/search?q=tea", "/help"}
	plans      = []string{"free", "basic", "premium"}
	methods    = []string{"GET", "GET", "GET", "GET", "POST", "HEAD"}
	statuses   = []string{"200", "200", "200", "200", "200", "301", "304", "404", "503"}
	referrers  = []string{"-", "-", "https://www.example.com/", "https://www.example.org/search"}
	agents     = []string{"curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148"}
)

// sdkEvent is what an SDK sends: seven of ten are track, two page, one identify.
//
//	{"type":"track","messageId":"...","userId":"user-17","event":"Product Viewed",
//	 "originalTimestamp":"...","properties":{"product_id":"sku-204","price":19.90,"currency":"EUR"}}
func sdkEvent(dst []byte, d *dice, at time.Time) []byte {
	kind := d.IntN(10)
	dst = append(dst, `{"type":"`...)
	dst = append(dst, [...]string{"identify", "page", "page"}[min(kind, 2)]...)
	if kind > 2 {
		dst = append(dst[:len(dst)-len("page")], "track"...)
	}
	dst = d.uuid(append(dst, `","messageId":"`...))
	dst = strconv.AppendInt(append(dst, `","userId":"user-`...), int64(d.IntN(1000)), 10)
	dst = at.UTC().AppendFormat(append(dst, `","originalTimestamp":"`...), timeLayout)
	switch {
	case kind == 0:
		dst = append(append(dst, `","traits":{"plan":"`...), d.pick(plans)...)
		return append(dst, `"}}`...)
	case kind <= 2:
		dst = append(append(dst, `","name":"shop","properties":{"path":"`...), d.pick(pages)...)
		return append(dst, `"}}`...)
	}
	dst = append(append(dst, `","event":"`...), d.pick(shopEvents)...)
	dst = strconv.AppendInt(append(dst, `","properties":{"product_id":"sku-`...), int64(d.IntN(500)), 10)
	dst = d.price(append(dst, `","price":`...))
	return append(dst, `,"currency":"EUR"}}`...)
}

// order is a shop's order: of twenty, about one from France, and one with a country that makes
// the example's function panic; the others are from Great Britain.
//
//	{"id":"...","country_code":"GB","customer_id":"customer-17","amount":19.90,"created_at":"..."}
func order(dst []byte, d *dice, at time.Time) []byte {
	country := [...]string{"FR", "PANIC", "GB"}[min(d.IntN(20), 2)]
	dst = d.uuid(append(dst, `{"id":"`...))
	dst = append(append(dst, `","country_code":"`...), country...)
	dst = strconv.AppendInt(append(dst, `","customer_id":"customer-`...), int64(d.IntN(1000)), 10)
	dst = d.price(append(dst, `","amount":`...))
	dst = at.UTC().AppendFormat(append(dst, `,"created_at":"`...), timeLayout)
	return append(dst, `"}`...)
}

// logLine is a line of the combined log format. Its id is the parameter r of the request.
//
//	203.0.113.7 - - [20/Nov/2026:09:00:01 +0000] "GET /cart?r=ID HTTP/1.1" 200 5120 "-" "curl/8.5.0"
func logLine(dst []byte, d *dice, at time.Time) []byte {
	dst = strconv.AppendInt(append(dst, "203.0.113."...), int64(1+d.IntN(254)), 10)
	dst = at.UTC().AppendFormat(append(dst, " - - ["...), "02/Jan/2006:15:04:05 -0700")
	dst = append(append(dst, `] "`...), d.pick(methods)...)
	page := d.pick(pages)
	dst = append(append(dst, ' '), page...)
	if page == "/search?q=tea" {
		dst = append(dst, "&r="...)
	} else {
		dst = append(dst, "?r="...)
	}
	dst = d.uuid(dst)
	dst = append(append(dst, ` HTTP/1.1" `...), d.pick(statuses)...)
	dst = strconv.AppendInt(append(dst, ' '), int64(d.IntN(90_000)), 10)
	dst = append(append(dst, ` "`...), d.pick(referrers)...)
	dst = append(append(dst, `" "`...), d.pick(agents)...)
	return append(dst, '"')
}
