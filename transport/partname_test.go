package transport

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestPartsAreNamedByMethodAndPath(t *testing.T) {
	for path, name := range map[string]string{
		"":                        "GET /",
		"/":                       "GET /",
		"/users":                  "GET /users",
		"/users/":                 "GET /users/",
		"/users/17":               "GET /users/*",
		"/users/17/orders/2":      "GET /users/*/orders/*",
		"/v2/users?page=17":       "GET /v2/users",
		"/oauth2/token":           "GET /oauth2/token",
		"/reports/2026-11-29":     "GET /reports/*",
		"/reports/2026/11/29/pdf": "GET /reports/*/*/*/pdf",
		"/o/b2c7d4a0-1c9e-4f0a-9b0e-3f1d2c4b5a69": "GET /o/*",
		"/o/Zd3YPqWGAbcdefgh":                     "GET /o/*",
		"/o/HE-66101":                             "GET /o/*",
		"/mail/jo@example.com":                    "GET /mail/*",
		"/blog/how-to-bake-bread":                 "GET /blog/*",
		"/password-reset-link":                    "GET /password-reset-link",
		"/files/a%2F17":                           "GET /files/a%2F17",
		"//17//":                                  "GET //*//",
	} {
		u, err := url.Parse("http://upstream.test" + path)
		require.NoError(t, err)
		req := &http.Request{URL: u}
		require.Equal(t, name, partName(req), path)
		require.NotZero(t, partNumber(req))
		u.RawQuery = "q"
		require.Equal(t, partNumber(&http.Request{Method: "GET", URL: u}), partNumber(req), "%s: the query has no say", path)
		require.NotEqual(t, partNumber(&http.Request{Method: "PUT", URL: u}), partNumber(req), path)
	}
	require.Equal(t, "GET /isbn:17", partName(&http.Request{URL: &url.URL{Opaque: "isbn:17"}}))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		partNumber(&http.Request{URL: &url.URL{Path: "/users/17/orders/b2c7d4a0-1c9e-4f0a-9b0e-3f1d2c4b5a69"}})
	}))
}

// api is a URL space as services have them: resources, below some of them others, and ids of one kind in between.
type api struct {
	*rand.Rand
	id    func() string
	names []string // templates, in which {} is an id
	sums  []float64
}

var (
	nouns = strings.Fields("users orders items carts payments reports search sessions messages comments labels invoices " +
		"products reviews teams projects files jobs events metrics")
	given = strings.Fields("ada alan barbara claude donald edsger frances grace hedy ivan john katherine leslie margaret niklaus")
	title = strings.Fields("bread winter garden how to bake the best of my first post about slow trains and fast boats")
)

func newAPI(seed uint64, ids string) *api {
	a := &api{Rand: rand.New(rand.NewPCG(seed, 7))}
	word := func(of []string) string { return of[a.IntN(len(of))] }
	hex := func(n int) string {
		text := ""
		for range n {
			text += fmt.Sprintf("%x", a.IntN(16))
		}
		return text
	}
	a.id = map[string]func() string{
		"numbers": func() string { return fmt.Sprint(1 + a.IntN(100_000)) },
		"uuids":   func() string { return hex(8) + "-" + hex(4) + "-4" + hex(3) + "-a" + hex(3) + "-" + hex(12) },
		"objects": func() string { return hex(24) },
		"codes":   func() string { return fmt.Sprintf("HE-%05d", a.IntN(100_000)) },
		"dates":   func() string { return fmt.Sprintf("20%02d-%02d-%02d", a.IntN(30), 1+a.IntN(12), 1+a.IntN(28)) },
		"slugs": func() string {
			return word(title) + "-" + word(title) + "-" + word(title) + "-" + word(title) + "-" + word(title)
		},
		"slugs with numbers": func() string { return word(title) + "-" + word(title) + fmt.Sprintf("-%d", 1000+a.IntN(9000)) },
		"names":              func() string { return word(given) + word(given) + word(title) },
	}[ids]
	version := []string{"", "/v1", "/api/v2"}[a.IntN(3)]
	for _, i := range a.Perm(len(nouns))[:3+a.IntN(8)] {
		root := version + "/" + nouns[i]
		a.names = append(a.names, "GET "+root, "POST "+root, "GET "+root+"/{}", "PUT "+root+"/{}")
		for range a.IntN(3) {
			a.names = append(a.names, "GET "+root+"/{}/"+word(nouns))
		}
	}
	sum := 0.0
	for i := range a.names {
		sum += math.Pow(float64(i+1), -0.8)
		a.sums = append(a.sums, sum)
	}
	a.Shuffle(len(a.names), func(i, j int) { a.names[i], a.names[j] = a.names[j], a.names[i] })
	return a
}

// draw returns a template by its popularity, and a request of it.
func (a *api) draw() (template string, req *http.Request) {
	at, u := 0, a.Float64()*a.sums[len(a.sums)-1]
	for a.sums[at] < u {
		at++
	}
	method, path, _ := strings.Cut(a.names[at], " ")
	for strings.Contains(path, "{}") {
		path = strings.Replace(path, "{}", a.id(), 1)
	}
	return a.names[at], &http.Request{Method: method, URL: &url.URL{Path: path}}
}

// A naming gives a request the names of the parts that it is of, the finest first.
type naming struct {
	name   string
	partOf func(*http.Request) []string
}

// prefixes are method and path up to each depth: the nodes of a tree.
func prefixes(req *http.Request, depths ...int) (nodes []string) {
	segments := strings.Split(strings.TrimPrefix(req.URL.Path, "/"), "/")
	for _, depth := range depths {
		nodes = append(nodes, req.Method+" "+strings.Join(segments[:min(depth, len(segments))], "/"))
	}
	return nodes
}

var namings = []naming{
	{"templates", func(req *http.Request) []string { return []string{partName(req)} }},
	{"paths as they are", func(req *http.Request) []string { return []string{req.Method + req.URL.Path} }},
	{"two segments", func(req *http.Request) []string { return prefixes(req, 2) }},
	{"tree of four levels", func(req *http.Request) []string { return prefixes(req, 4, 3, 2, 1) }},
}

// tried is what came of a naming.
type tried struct {
	draws, found int
	failures     int     // until something was cut out
	covered      float64 // share of the calls that fail which is cut out
	wrongly      float64 // share of those that do not
}

// try has a template of an API fail until a part is cut out, or for long, and counts whose calls that part has.
func try(n naming, a *api) (found bool, failures int, covered, wrongly float64) {
	dead := a.names[a.IntN(len(a.names))]
	var levels []*policy.Suspects
	cut, level := "", 0
	for range 4_000 {
		template, req := a.draw()
		fails := template == dead || a.Float64() < 0.005
		if template == dead {
			failures++
		}
		for i, name := range n.partOf(req) {
			if len(levels) <= i {
				levels = append(levels, policy.Contrast{}.NewSuspects())
			}
			r := policy.Result{Outcome: policy.Success, Part: sumOf(name)}
			if fails {
				r.Outcome, r.Cause = policy.Failure, policy.Cause{Kind: policy.KindStatus, Status: 500}
			}
			if levels[i].Record(r, a.Float64) && cut == "" {
				cut, level = name, i
			}
		}
		if cut != "" {
			break
		}
	}
	if cut == "" {
		return false, failures, 0, 0
	}
	var of, in [2]float64 // calls that are well, and that fail
	for range 4_000 {
		template, req := a.draw()
		which := 0
		if template == dead {
			which = 1
		}
		if of[which]++; n.partOf(req)[level] == cut {
			in[which]++
		}
	}
	return true, failures, in[1] / max(1, of[1]), in[0] / max(1, of[0])
}

func sumOf(name string) uint64 {
	sum := fnv.New64a()
	sum.Write([]byte(name))
	return max(1, sum.Sum64())
}

// TestTemplatesFindWhatIsDeadInRealLookingURLs shows, with -v, what names of parts come to in URL spaces drawn at random.
func TestTemplatesFindWhatIsDeadInRealLookingURLs(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	kinds := []string{"numbers", "uuids", "objects", "codes", "dates", "slugs", "slugs with numbers", "names"}
	for _, ids := range kinds {
		for i, n := range namings {
			var sum tried
			for seed := range seeds {
				found, failures, covered, wrongly := try(n, newAPI(seed, ids))
				if sum.draws++; found {
					sum.found++
					sum.failures += failures
					sum.covered += covered
					sum.wrongly += wrongly
				}
			}
			found := float64(max(1, sum.found))
			t.Logf("%-18s  %-19s  found in %3.0f %%, after %4.1f failures; of what fails %3.0f %% cut out, of what is well %4.1f %%",
				ids, n.name, 100*float64(sum.found)/float64(sum.draws), float64(sum.failures)/found,
				100*sum.covered/found, 100*sum.wrongly/found)
			if i == 0 && ids != "names" {
				require.Greater(t, sum.found, sum.draws*9/10, ids)
				require.Greater(t, sum.covered/found, 0.95, ids)
				require.Less(t, sum.wrongly/found, 0.03, ids)
			}
		}
	}
}

func TestNothingIsCutOutOfRealLookingURLsThatFailNowAndThen(t *testing.T) {
	calls := 200_000
	if testing.Short() {
		calls /= 10
	}
	for _, ids := range []string{"numbers", "uuids", "slugs", "names"} {
		a := newAPI(1, ids)
		suspects := policy.Contrast{}.NewSuspects()
		for range calls {
			_, req := a.draw()
			r := policy.Result{Outcome: policy.Success, Part: partNumber(req)}
			if a.Float64() < 0.05 {
				r.Outcome, r.Cause = policy.Failure, policy.Cause{Kind: policy.KindStatus, Status: 500}
			}
			require.False(t, suspects.Record(r, a.Float64), "%s: %s", ids, partName(req))
		}
	}
}
