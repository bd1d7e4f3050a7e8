package transport_test

import (
	oldrand "math/rand" // which testing/quick asks for
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// keyOfText takes a key's text apart again: what can be read back in one way tells any two keys apart.
func keyOfText(text string) (k transport.Key, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		k.Detail, err = unescape(text)
		return k, err
	}
	host, detail, _ := strings.Cut(rest, " ")
	for part, text := range map[*string]string{&k.Scheme: scheme, &k.Host: host, &k.Detail: detail} {
		if *part, err = unescape(text); err != nil {
			return k, err
		}
	}
	return k, nil
}

func unescape(text string) (string, error) {
	return strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
}

// trickyKey is a key of pieces that mean something in the text of one, or look as if they did.
type trickyKey struct{ transport.Key }

var trickyPieces = []string{
	"", "a", "acme", " ", "  ", "\n", `\n`, `\`, `\\`, `\x20`, `\x3a`, ":", "/", "//", "://", ":// ", "http", "https://a", "*", `\*`, `"`,
	"\xff", `\xff`, "\x85", "\u0085", `\u0085`, "\u00a0", "\u200b", "\u202e", "\u3000", "\ufffd", "\U000e0001", "é", "e\u0301", "\x00", "\x7f", "\t",
}

func (trickyKey) Generate(random *rand.Rand, _ int) trickyKey {
	part := func() (text string) {
		for range random.IntN(4) {
			text += trickyPieces[random.IntN(len(trickyPieces))]
		}
		return text
	}
	return trickyKey{transport.Key{Scheme: part(), Host: part(), Detail: part()}}
}

func holdsForKeys(t *testing.T, property any, times int) {
	t.Helper()
	if testkit.Brief() {
		times /= 10
	}
	random := rand.New(rand.NewPCG(1, 2))
	require.NoError(t, quick.Check(property, &quick.Config{MaxCount: times, Values: func(args []reflect.Value, _ *oldrand.Rand) {
		for i := range args {
			args[i] = reflect.ValueOf(trickyKey{}.Generate(random, 0))
		}
	}}))
}

func TestTheTextOfAKeyTellsItFromAllOthers(t *testing.T) {
	texts := map[string]transport.Key{}
	holdsForKeys(t, func(k trickyKey) bool {
		text := k.String()
		if other, known := texts[text]; known && other != k.Key {
			t.Errorf("%#v and %#v are both %q", other, k.Key, text)
		}
		texts[text] = k.Key
		read, err := keyOfText(text)
		return err == nil && read == k.Key
	}, 50_000)
}

func TestWhatIsForcedByTheTextOfAKeyIsForcedForNoOther(t *testing.T) {
	holdsForKeys(t, func(k, other trickyKey) bool {
		rt := transport.New(answer(200, ""))
		rt.SetState(k.Key, policy.Closed)
		rt.SetState(other.Key, policy.Closed)
		rt.Force(k.Pattern(), policy.Open)
		return circuit(t, rt, k.Key).Forced && circuit(t, rt, other.Key).Forced == (k == other)
	}, 20_000)
}

func TestTheTextOfAKeyWithoutStarsAndBackslashesIsItsPattern(t *testing.T) {
	escaped := 0
	holdsForKeys(t, func(k, other trickyKey) bool {
		text := k.String()
		if strings.Contains(text, `\\`) || strings.Contains(text, "*") {
			return true
		}
		if strings.Contains(text, `\`) {
			escaped++
		}
		rt := transport.New(answer(200, ""))
		rt.SetState(k.Key, policy.Closed)
		rt.SetState(other.Key, policy.Closed)
		rt.Force(text, policy.Open)
		return circuit(t, rt, k.Key).Forced && circuit(t, rt, other.Key).Forced == (k == other)
	}, 20_000)
	require.Greater(t, escaped, 500, "or this test is of nothing")
}

func TestKeysThatLookAlikeHaveTextsOfTheirOwn(t *testing.T) {
	for _, pair := range [][2]transport.Key{
		{{Scheme: "http", Host: "a", Detail: "acme"}, {Scheme: "http", Host: "a", Detail: "acme "}},
		{{Scheme: "http", Host: "a"}, {Scheme: "http", Host: "a", Detail: " "}},
		{{Detail: "a\nb"}, {Detail: `a\nb`}},
		{{Detail: "a  b"}, {Detail: "a b"}},
		{{Detail: "a\u00a0b"}, {Detail: "a b"}},
		{{Detail: "\xff"}, {Detail: `\xff`}},
		{{Detail: "http://a"}, {Scheme: "http", Host: "a"}},
		{{Detail: "http://a x"}, {Scheme: "http", Host: "a", Detail: "x"}},
		{{Detail: ":// http://a"}, {Detail: "http://a"}},
		{{Scheme: "http", Host: "a b"}, {Scheme: "http", Host: "a", Detail: "b"}},
		{{Scheme: "http", Host: "b://c"}, {Scheme: "http://b", Host: "c"}},
		{{Scheme: "http:", Host: "//a"}, {Scheme: "http", Host: "://a"}},
	} {
		require.NotEqual(t, pair[0].String(), pair[1].String())
		for _, k := range pair {
			require.NotEqual(t, " ", k.String()[len(k.String())-1:], "%q ends in what nobody sees", k)
			require.NotContains(t, k.String(), "  ")
		}
		rt := transport.New(answer(200, ""))
		for _, k := range pair {
			rt.SetState(k, policy.Closed)
		}
		rt.Force(pair[0].Pattern(), policy.Open)
		require.True(t, circuit(t, rt, pair[0]).Forced)
		require.False(t, circuit(t, rt, pair[1]).Forced, "%#v", pair)
	}
}

func FuzzTextsOfKeys(f *testing.F) {
	f.Add("http", "a", "acme", "http", "a", "acme ")
	f.Add("", "", "a\nb", "", "", `a\nb`)
	f.Add("", "", "http://a x", "http", "a", "x")
	f.Add("http", "a b", "", "http", "a", "b")
	f.Add("http", "b://c", "", "http://b", "c", "")
	f.Add("", "", "\xff\u00a0\u202e", "", "", `\xff\u00a0`)
	f.Fuzz(func(t *testing.T, scheme, host, detail, otherScheme, otherHost, otherDetail string) {
		k, other := transport.Key{Scheme: scheme, Host: host, Detail: detail}, transport.Key{Scheme: otherScheme, Host: otherHost, Detail: otherDetail}
		if k != other && k.String() == other.String() {
			t.Errorf("%#v and %#v are both %q", k, other, k.String())
		}
		if read, err := keyOfText(k.String()); err != nil || read != k {
			t.Errorf("%#v is %q, which is %#v (%v)", k, k.String(), read, err)
		}
		for _, r := range k.String() {
			if !strconv.IsPrint(r) {
				t.Errorf("%q has %q in it", k.String(), r)
			}
		}
		rt := transport.New(answer(200, ""))
		if !rt.SetState(k, policy.Closed) || !rt.SetState(other, policy.Closed) {
			return
		}
		rt.Force(k.Pattern(), policy.Open)
		if !circuit(t, rt, k).Forced || circuit(t, rt, other).Forced != (circuit(t, rt, k).Key == circuit(t, rt, other).Key) {
			t.Errorf("%q is %v, and %#v %v", k.Pattern(), circuit(t, rt, k).Forced, other, circuit(t, rt, other).Forced)
		}
	})
}

func TestADetailThatIsTooLongHasACircuitOfItsOwnAllTheSame(t *testing.T) {
	long := strings.Repeat("é", 2000)
	keys := []transport.Key{
		{Scheme: "http", Host: "a.test", Detail: long}, {Scheme: "http", Host: "a.test", Detail: long + "x"}, {Scheme: "http", Host: "b.test", Detail: long},
		{Scheme: "http", Host: "a.test", Detail: strings.Repeat("x", 512)}, {Scheme: "http", Host: "a.test", Detail: strings.Repeat("x", 513)},
		{Scheme: "http", Host: "a.test", Detail: "x" + long}, {Scheme: "http", Host: "a.test", Detail: "\xff" + long}, {Detail: strings.Repeat("\x80", 1<<20)},
	}
	rt := transport.New(answer(200, ""))
	for _, k := range keys {
		require.True(t, rt.SetState(k, policy.Closed))
		_, known := rt.Circuit(k)
		require.True(t, known)
	}
	require.Len(t, rt.Circuits(), len(keys))
	for _, c := range rt.Circuits() {
		require.LessOrEqual(t, len(c.Key.Detail), 512)
		again, known := rt.Circuit(c.Key)
		require.True(t, known)
		require.Equal(t, c.Key, again.Key, "its key is a key of it, too")
	}
	for i, k := range keys {
		matched, err := rt.Force(k.Pattern(), policy.Open)
		require.NoError(t, err)
		require.Equal(t, 1, matched, "%d", i)
		rt.Release(k.Pattern())
	}
	require.Equal(t, strings.Repeat("x", 512), circuit(t, rt, keys[3]).Key.Detail, "what fits is as it was")
	require.True(t, strings.HasPrefix(circuit(t, rt, keys[0]).Key.String(), "http://a.test éééé"))
	for _, i := range []int{0, 5} {
		require.True(t, utf8.ValidString(circuit(t, rt, keys[i]).Key.Detail), "text stays text")
	}
}
