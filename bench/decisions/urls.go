package main

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
)

// words are what resources are named after.
var words = strings.Fields(`orders users items carts payments search invoices products sessions events teams
	projects issues comments files reports settings messages accounts customers reviews shipments stores coupons
	devices metrics alerts labels members webhooks`)

// names are ids that people give: what no digit tells from a resource's name.
var names = strings.Fields(`octocat hello-world my-first-post berlin north-america jane acme globex initech umbrella
	hooli summer-sale release-notes how-to-cook-rice getting-started about-us the-end-of-an-era checkout backend
	frontend platform main develop stable nightly gold silver de-DE en-US fr-FR`)

// An id is how a URL space names its things.
type id int

const (
	idNumber    id = iota // 48213
	idUUID                // 0e3c9d52-5c6f-4a3e-9d0f-3f2a9c1b7e44
	idHex                 // 5f1d7f0e8a3b4c2d9e6f7a8b
	idShort               // dQw4w9WgXcQ
	idCode                // AB-12345
	idSlug                // how-to-cook-rice
	idMixedSlug           // how-to-cook-rice-4711
	idDate                // 2026-03-14
	idEmail               // jane@example.com
	ids
)

// of writes the n-th id of that kind.
func (k id) of(c coin) string {
	hex := fmt.Sprintf("%016x%016x", uint64(c.with(1)), uint64(c.with(2)))
	n := uint64(c.with(3))
	name := names[n%uint64(len(names))]
	switch k {
	case idNumber:
		return fmt.Sprint(n % uint64(math.Pow10(1+int(uint64(c.with(4))%8))))
	case idUUID:
		return hex[:8] + "-" + hex[8:12] + "-4" + hex[13:16] + "-a" + hex[17:20] + "-" + hex[20:]
	case idHex:
		return hex[:24]
	case idShort:
		const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"
		var b strings.Builder
		for range 11 {
			b.WriteByte(digits[n%64])
			n /= 64
		}
		return b.String()
	case idCode:
		return fmt.Sprintf("%c%c-%d", 'A'+n%26, 'A'+n/26%26, n/676%100000)
	case idMixedSlug:
		return fmt.Sprintf("%s-%d", name, n%10000)
	case idDate:
		return fmt.Sprintf("20%02d-%02d-%02d", n%30, 1+n/30%12, 1+n/360%28)
	case idEmail:
		return names[n%8] + fmt.Sprint(n%97) + "@example.com"
	}
	return name
}

// A template is what many URLs have in common. Segments that are ids are empty.
type template struct {
	method   string
	segments []string
	ids      id
	resource string // which it belongs to
}

// urls is an API's URL space.
type urls struct {
	prefix    []string
	templates []template
	sums      []float64 // how popular the templates are
	things    []float64 // how popular the ids of each are
	dead      func(t template) bool
}

// newURLs draws a URL space: 2 to 20 resources, each with a list, and most with things that have ids and what is
// below those, to be read by GET and, half of them, to be changed. Templates are as popular as Zipf's law with
// exponents of 0.3 to 1.3 makes them, and ids, of 30 to 30,000 things, by 0.3 to 1.1. A space has one kind of id, or
// one for each resource.
func newURLs(d dice) *urls {
	prefixes := [][]string{nil, {"api"}, {"v1"}, {"api", "v2"}, {"rest", "2024-10"}}
	u := &urls{prefix: pick(d, prefixes...)}
	kinds := id(d.IntN(int(ids)))
	for _, i := range d.Perm(len(words))[:d.whole(2, 20)] {
		name, kind := words[i], kinds
		if d.chance(0.3) {
			kind = id(d.IntN(int(ids)))
		}
		add := func(method string, segments ...string) {
			u.templates = append(u.templates, template{method, segments, kind, name})
		}
		add(http.MethodGet, name)
		if d.chance(0.5) {
			add(http.MethodPost, name)
		}
		if d.chance(0.2) {
			continue
		}
		add(http.MethodGet, name, "")
		if d.chance(0.5) {
			add(pick(d, http.MethodPut, http.MethodPatch, http.MethodDelete), name, "")
		}
		if d.chance(0.5) {
			below := words[d.IntN(len(words))]
			add(http.MethodGet, name, "", below)
			if d.chance(0.5) {
				add(http.MethodGet, name, "", below, "")
			}
		}
	}
	d.Shuffle(len(u.templates), func(i, j int) { u.templates[i], u.templates[j] = u.templates[j], u.templates[i] })
	u.sums = popular(len(u.templates), d.between(0.3, 1.3))
	u.things = popular(int(d.spread(30, 30_000)), d.between(0.3, 1.1))
	u.dead = func(template) bool { return false }
	return u
}

// deadPart is the number of what kill has killed; all else is 0.
const deadPart = 1

// kill draws what is dead, of the more popular half of the templates, and says it.
func (u *urls) kill(d dice) string {
	one := u.templates[d.IntN((len(u.templates)+1)/2)]
	path := "/" + strings.Join(one.segments, "/")
	switch d.IntN(6) {
	case 0, 1:
		u.dead = func(t template) bool { return t.method == one.method && "/"+strings.Join(t.segments, "/") == path }
		return one.method + " " + path + " of ids like " + one.ids.of(0)
	case 2:
		u.dead = func(t template) bool { return "/"+strings.Join(t.segments, "/") == path }
		return path + " of ids like " + one.ids.of(0)
	case 3:
		writes := func(t template) bool { return t.method != http.MethodGet }
		if slices.ContainsFunc(u.templates, writes) {
			u.dead = writes
			return "all that writes"
		}
	}
	u.dead = func(t template) bool { return t.resource == one.resource }
	return one.resource + " and below, of ids like " + one.ids.of(0)
}

// route returns what a request asks for.
func (u *urls) route(c coin) route {
	t := u.templates[choose(u.sums, c.uniform(drawRoute))]
	var b strings.Builder
	for _, s := range u.prefix {
		b.WriteString("/" + s)
	}
	for i, s := range t.segments {
		if s == "" {
			thing := coin(choose(u.things, c.with(drawID).uniform(uint64(i))))
			s = t.ids.of(thing.with(uint64(len(t.resource))))
		}
		b.WriteString("/" + s)
	}
	r := route{method: t.method, path: b.String()}
	if u.dead(t) {
		r.part = deadPart
	}
	return r
}
