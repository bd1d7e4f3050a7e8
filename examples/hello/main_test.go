package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// chance is what differs from run to run: the server's port, and the time that is left.
var chance = regexp.MustCompile(`127\.0\.0\.1:\d+|\d+m?s,`)

// README.md shows six failures and a refusal. A machine that is slow enough has a probe between them, which fails as well.
func TestHelloIsRefusedAfterSixFailuresAsReadmeShows(t *testing.T) {
	var out bytes.Buffer
	hello(&out)
	failed, refusal := "500 Internal Server Error: out of order\n", "503 Service Unavailable: fusebox: circuit open for http://"
	text := out.String()
	if !strings.HasPrefix(text, strings.Repeat(failed, 6)) || !strings.HasPrefix(strings.ReplaceAll(text, failed, ""), refusal) {
		t.Errorf("it printed:\n%s", text)
	}

	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Repeat(failed, 6) + text[strings.LastIndex(text, "503"):]
	if !strings.Contains(chance.ReplaceAllString(string(readme), "…"), "```text\n"+chance.ReplaceAllString(shown, "…")+"```") {
		t.Errorf("README.md does not show this:\n%s", shown)
	}
}
