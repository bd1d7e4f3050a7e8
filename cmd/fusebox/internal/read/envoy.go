package read

import (
	"bytes"
	"time"
)

// envoyLines reads Envoy's default format, also with a word such as ACCESS before it.
type envoyLines struct{ self about }

var envoy = &envoyLines{about{name: "envoy", took: true, resolution: time.Millisecond,
	key: "cluster if the line has one, else host", cannotShow: envoyCannot}}

var envoyCannot = []string{
	"Of a call that was tried again only the last host is named.",
	"A line of a TCP proxy has no status.",
}

func (e *envoyLines) about() *about { return &e.self }

func (e *envoyLines) line(w *worker, b []byte) verdict {
	at := bytes.IndexByte(b, '[')
	if at < 0 || at > 64 {
		return isStrange
	}
	b = b[at+1:]
	i := bytes.Index(b, []byte(`] "`))
	if i < 0 {
		return isStrange
	}
	r := &w.row
	*r = row{took: -1, span: -1, first: -1}
	var ok bool
	if r.stamp, ok = w.rfc3339(b[:i]); !ok {
		return isStrange
	}
	b = b[i+3:]
	if i = index(b, `" `); i < 0 {
		return isStrange
	}
	tcp := string(b[:i]) == "- - -"
	r.method, r.path, _ = requestOf(b[:i])
	status, b := word(b[i+2:])
	flags, b := word(b)
	if r.status, ok = statusIn(status); !ok {
		return isStrange
	}
	// What is next are reasons, in newer formats, and then four numbers before the address of the caller: bytes, bytes,
	// the time, and that at the upstream.
	var n [4][]byte
	for got := 0; ; {
		if len(b) == 0 {
			return isStrange
		}
		if b[0] == '"' {
			if got >= len(n) && duration(n[2], 1) >= 0 {
				break
			}
			end := index(b[1:], `"`)
			if end < 0 {
				return isStrange
			}
			b, got = bytes.TrimLeft(b[end+2:], " "), 0
			continue
		}
		copy(n[:], n[1:])
		n[3], b = word(b)
		got++
	}
	r.took, r.first = duration(n[2], 1e6), duration(n[3], 1e6)
	var texts [5][]byte // the caller, its agent, an id, the authority, the upstream
	for i := range texts {
		open := bytes.IndexByte(b, '"')
		if open < 0 {
			return isStrange
		}
		b = b[open+1:]
		end := index(b, `"`)
		if end < 0 {
			return isStrange
		}
		texts[i], b = b[:end], b[end+1:]
	}
	r.client, _, _ = bytes.Cut(noHyphen(texts[0]), []byte{','})
	r.host, r.upstream = noHyphen(texts[3]), noHyphen(texts[4])
	cluster, _ := word(bytes.TrimLeft(b, " ")) // in newer formats
	r.backend = noHyphen(cluster)
	r.reading = ofEnvoy(r, flags)
	if tcp && r.reading == callerLeft && string(flags) == "-" {
		r.reading = tunneled
	}
	w.emit()
	return isCall
}

// envoyFlags are the response flags, of which the first that a line has decides.
var envoyFlags = []struct {
	flag string
	reading
}{
	{"DC", callerLeft}, {"DPE", badRequest}, {"SI", badRequest}, {"NR", byItself}, {"NC", byItself}, {"RL", byItself},
	{"RLSE", byItself}, {"UAEX", byItself}, {"FI", byItself}, {"DI", byItself}, {"LH", noServer}, {"UH", noServer},
	{"UO", queueOrLimit}, {"OM", queueOrLimit}, {"UT", headersTimeout}, {"DT", headersTimeout},
	{"UPE", notHTTP}, {"UC", headersReset}, {"UR", headersReset}, {"LR", headersReset}, {"DF", noName},
	{"UF", connectRefused}, {"URX", failedOther}, {"UMSDR", headersTimeout}, {"NFCF", byItself}, {"RFCF", fromCache},
	{"IH", badRequest}, {"DO", byItself},
}

// ofEnvoy reads the flags, a list with commas.
func ofEnvoy(r *row, flags []byte) reading {
	for i := range envoyFlags {
		f := &envoyFlags[i]
		if !hasFlag(flags, f.flag) {
			continue
		}
		begun := r.status > 0 && r.status < 500 // the headers had gone out before
		switch {
		case f.reading == callerLeft && begun:
			return answeredThenLeft
		case (f.reading == headersReset || f.reading == notHTTP) && begun:
			return bodyBroke
		case f.reading == headersTimeout && begun:
			return bodyTimeout
		}
		return f.reading
	}
	if len(r.upstream) == 0 && r.status > 0 {
		return byItself
	}
	return byStatus(r.status)
}

func hasFlag(flags []byte, flag string) bool {
	for len(flags) > 0 {
		var one []byte
		one, flags, _ = bytes.Cut(flags, []byte{','})
		if string(one) == flag {
			return true
		}
	}
	return false
}
