package visible_test

import (
	"testing"
	"testing/quick"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/visible"
)

func TestWhatCannotBeSeenIsEscaped(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"https://example.com GET /{x}":  "https://example.com GET /{x}",
		`CORP\alice "a"`:                `CORP\alice "a"`,
		"Zoë 日本語 العربية ע 😀":           "Zoë 日本語 العربية ע 😀",
		"\u202egnp.exe":                 `\u202egnp.exe`,
		"a\u2066b\u2069\u200f\u061c":    `a\u2066b\u2069\u200f\u061c`,
		"ad\u200bmin\u200d\ufeff\u00ad": `ad\u200bmin\u200d\ufeff\u00ad`,
		"\u3164\u115f\uffa0\u2800":      `\u3164\u115f\uffa0\u2800`,
		"a\ufe0f\U000e0101\u034f":       `a\ufe0f\U000e0101\u034f`,
		"\U000e0041\u2028\u2029":        `\U000e0041\u2028\u2029`,
		"acme\u00a0\u3000":              `acme\u00a0\u3000`,
		"one\ntwo\t\x00\x7f\x1b[2J":     `one\ntwo\t\x00\x7f\x1b[2J`,
		"\xff\xc0a\ufffd":               `\xff\xc0a` + "\ufffd",
	} {
		require.Equal(t, want, visible.Text(text))
	}
	require.Equal(t, `http://\\u202ea*\*\\\\xff`, visible.Pattern("http://\u202ea*\\*\\\\\xff"))
}

func TestEveryCharacterOfTheseKindsIsEscaped(t *testing.T) {
	for r := range rune(unicode.MaxRune + 1) {
		if unicode.In(r, unicode.Bidi_Control, unicode.Cf, unicode.Cc, unicode.Co, unicode.Z, unicode.Join_Control, unicode.Variation_Selector,
			unicode.Other_Default_Ignorable_Code_Point) && r != ' ' {
			if text := visible.Text(string(r)); text[0] != '\\' || len(text) == 1 {
				require.Fail(t, "it is not escaped", "%U", r)
			}
		}
	}
}

func TestALongTextIsCut(t *testing.T) {
	require.Equal(t, "éé", visible.Short("ééé", 4))
	require.Equal(t, `\u202e\u`, visible.Short("\u202e\u202e\u202e", 8))
	require.Equal(t, "short", visible.Short("short", 8))
	require.Empty(t, visible.Short("", 8))
}

func TestNothingInvisibleIsLeftOfAnyText(t *testing.T) {
	require.NoError(t, quick.Check(func(bytes []byte, text string) bool {
		for _, s := range []string{string(bytes), text} {
			got := visible.Text(s)
			for _, r := range got {
				if !visible.Rune(r) {
					return false
				}
			}
			if !utf8.ValidString(got) || visible.Text(got) != got || visible.Pattern(visible.Pattern(s)) != visible.Pattern(s) {
				return false
			}
		}
		return true
	}, nil))
}
