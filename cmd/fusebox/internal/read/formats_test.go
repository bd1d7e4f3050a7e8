package read

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Lines as the documentation of each has them, and what is to be read: start, took, key, status, outcome and cause.
var documented = []struct {
	name, format, key string
	lines             []string
	want              []string
}{
	{"Envoy", "", "upstream", []string{
		`[2026-11-29T02:27:06.100Z] "GET /a HTTP/1.1" 200 - 0 7 12 11 "10.0.0.9" "curl/8" "id-1" "svc:80" "10.1.0.1:8080"`,
		`[2026-11-29T02:27:06.200Z] "GET /a HTTP/1.1" 503 UF,URX 0 91 1000 - "-" "curl/8" "id-2" "svc:80" "10.1.0.1:8080"`,
		`[2026-11-29T02:27:06.300Z] "POST /a HTTP/2" 504 UT 3 24 15000 - "-" "a \"quoted\" agent" "id-3" "svc" "10.1.0.2:8080"`,
		`[2026-11-29T02:27:06.400Z] "GET /a HTTP/1.1" 0 DC 0 0 300 - "-" "-" "id" "svc" "10.1.0.2:8080"`,
		`[2026-11-29T02:27:06.500Z] "GET /a HTTP/1.1" 200 UC 0 9 30 1 "-" "-" "id" "svc" "10.1.0.2:8080"`,
		`[2026-11-29T02:27:06.600Z] "GET /a HTTP/1.1" 429 RL 0 9 0 - "-" "-" "id" "svc" "-"`,
		`[2026-11-29T02:27:06.700Z] "GET /a HTTP/1.1" 503 UH 0 9 0 - "-" "-" "id" "svc" "-"`,
		`[2026-11-29T02:27:06.800Z] "- - -" 0 - 10 20 500 - "-" "-" "-" "-" "10.1.0.2:8080"`,
	}, []string{
		"06.1 12ms 10.1.0.1:8080 200 success ok",
		"06.2 1s 10.1.0.1:8080 503 failure connect: refused",
		"06.3 15s 10.1.0.2:8080 504 failure headers: timeout (transport)",
		"06.4 300ms 10.1.0.2:8080 0 ignored canceled",
		"06.5 30ms 10.1.0.2:8080 200 failure body: reset",
		"06.6 0s (all) 429 ignored local trouble",
		"06.8 500ms 10.1.0.2:8080 0 success ok",
	}},
	{"Istio", "", "", []string{
		`[2026-11-29T02:27:06.100Z] "GET /a HTTP/1.1" 200 - via_upstream - "-" 0 5 3 2 "-" "curl/8" "id" "svc:80" "10.1.0.1:8080" outbound|80||svc 10.0.0.1:1 10.0.0.2:2 10.0.0.3:3 - default`,
		`[2026-11-29T02:27:06.200Z] "GET /a HTTP/1.1" 503 UC upstream_reset_before_response_started{connection_termination} - "-" 0 95 1 - "-" "curl/8" "id" "svc:80" "10.1.0.1:8080" outbound|80||svc - - - - -`,
	}, []string{
		"06.1 3ms outbound|80||svc 200 success ok",
		"06.2 1ms outbound|80||svc 503 failure headers: reset",
	}},
	{"ALB", "", "", []string{
		`https 2026-11-29T02:27:06.500000Z app/lb/50dc 192.168.1.1:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/a b HTTP/1.1" "curl/8 \"x\"" ECDHE-RSA TLSv1.2 arn:aws:elasticloadbalancing:us-east-2:123:targetgroup/shop/73e2 "Root=1-58" "www.example.com" "arn:aws" 1 2026-11-29T02:27:06.329000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-"`,
		`http 2026-11-29T02:27:06.600000Z app/lb/50dc 192.168.1.1:2817 10.0.0.1:80 0.001 -1 -1 502 - 0 57 "GET http://www.example.com:80/ HTTP/1.1" "curl/8" - - arn:aws:elasticloadbalancing:us-east-2:123:targetgroup/shop/73e2 "Root=1-58" "-" "-" 0 2026-11-29T02:27:06.599000Z "forward" "-" "-"`,
		`http 2026-11-29T02:27:06.700000Z app/lb/50dc 192.168.1.1:2817 - -1 -1 -1 503 - 0 57 "GET http://www.example.com:80/ HTTP/1.1" "curl/8" - - arn:aws:elasticloadbalancing:us-east-2:123:targetgroup/shop/73e2 "Root=1-58" "-" "-" 0 2026-11-29T02:27:06.599000Z "forward" "-" "-"`,
		`http 2026-11-29T02:27:06.800000Z app/lb/50dc 192.168.1.1:2817 - 0.000 -1 -1 460 - 0 57 "GET http://www.example.com:80/ HTTP/1.1" "curl/8" - - arn:aws:elasticloadbalancing:us-east-2:123:targetgroup/shop/73e2 "Root=1-58" "-" "-" 0 2026-11-29T02:27:06.599000Z "forward" "-" "-"`,
		`http 2026-11-29T02:27:06.900000Z app/lb/50dc 192.168.1.1:2817 - -1 -1 -1 503 - 0 57 "GET http://www.example.com:80/ HTTP/1.1" "curl/8" - - - "Root=1-58" "-" "-" 0 2026-11-29T02:27:06.599000Z "fixed-response" "-" "-"`,
		`http 2026-11-29T02:27:07.000000Z app/lb/50dc 192.168.1.1:2817 - -1 -1 -1 400 - 0 57 "- http://www.example.com:80- " "-" - - - "-" "-" "-" - 2026-11-29T02:27:06.599000Z "-" "-" "-"`,
		`tls 2.0 2026-11-29T02:27:06 net/lb/c6 g3 72.21.218.154:51341 172.100.100.185:443 5 2 98 246`,
	}, []string{
		"06.329 85ms shop 200 success ok",
		"06.599 1ms shop 502 failure headers: reset",
		"06.599 101ms shop 503 failure connect: refused",
		"06.599 201ms shop 460 ignored canceled",
		"06.599 301ms www.example.com:80 503 ignored local trouble",
		"06.599 401ms www.example.com:80- 400 ignored bad request",
	}},
	{"CloudFront", "", "", []string{
		"#Version: 1.0",
		"#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len sc-range-start sc-range-end",
		cloudfrontLine("200", "Miss", "Miss"),
		cloudfrontLine("200", "Hit", "Hit"),
		cloudfrontLine("502", "Error", "OriginConnectError"),
		cloudfrontLine("000", "Error", "ClientCommError"),
	}, []string{
		"06 123ms shop.example.com 200 success ok",
		"06 123ms shop.example.com 200 ignored local trouble",
		"06 123ms shop.example.com 502 failure connect: refused",
		"06 123ms shop.example.com 0 ignored canceled",
	}},
	{"GCP", "", "", []string{
		gcpLineOf(`"status":200,"latency":"0.123456s"`, "response_sent_by_backend"),
		gcpLineOf(`"status":502,"latency":"3.000001s"`, "failed_to_connect_to_backend"),
		gcpLineOf(`"latency":"0.2s"`, "client_disconnected_before_any_response"),
		gcpLineOf(`"status":200,"latency":"0.2s","cacheHit":true`, "response_from_cache"),
		gcpLineOf(`"status":200,"latency":"0.2s"`, "backend_connection_closed_after_partial_response_sent"),
		gcpLineOf(`"status":403,"latency":"0.2s"`, "denied_by_security_policy"),
	}, []string{
		"06.1 123.456ms shop-backend 200 success ok",
		"06.1 3.000001s shop-backend 502 failure connect: refused",
		"06.1 200ms shop-backend 0 ignored canceled",
		"06.1 200ms shop-backend 200 ignored local trouble",
		"06.1 200ms shop-backend 200 failure body: reset",
		"06.1 200ms shop-backend 403 ignored local trouble",
	}},
	{"HAR of Chrome's tools", "", "", []string{
		`{"log":{"version":"1.2","creator":{"name":"WebInspector","version":"537.36"},"pages":[],"entries":[`,
		harEntry(`"status":200,"_transferSize":100`, "", 12.5) + ",",
		harEntry(`"status":0,"_error":"net::ERR_CONNECTION_REFUSED"`, "", 2) + ",",
		harEntry(`"status":0,"_error":"net::ERR_ABORTED"`, "", 2) + ",",
		harEntry(`"status":200`, `"_fromCache":"disk",`, 2) + ",",
		harEntry(`"status":0,"_error":"net::ERR_BLOCKED_BY_CLIENT"`, "", 2),
		`]}}`,
	}, []string{
		"06.1 12.5ms shop.example.com 200 success ok",
		"06.1 2ms shop.example.com 0 failure connect: refused",
		"06.1 2ms shop.example.com 0 ignored canceled",
		"06.1 2ms shop.example.com 200 ignored local trouble",
		"06.1 2ms shop.example.com 0 ignored local trouble",
	}},
	{"a LogFormat with milliseconds", `apache:%h \"%r\" %>s %{end:msec}t %{ms}T %{BALANCER_WORKER_NAME}e`, "", []string{
		`10.0.0.1 "GET / HTTP/1.1" 200 1795919226500 400 http://10.1.0.1:8080`,
		`10.0.0.1 "GET /\"x HTTP/1.1" 502 1795919226600 0 http://10.1.0.1:8080`,
	}, []string{"06.1 400ms 10.1.0.1:8080 200 success ok", "06.6 0s 10.1.0.1:8080 502 failure status 502"}},
	{"a LogFormat with a fraction", `apache:%{%Y-%m-%dT%H:%M:%S}t.%{usec_frac}t %v %>s %D`, "", []string{
		`2026-11-29T02:27:06.250000 shop 200 1500`,
	}, []string{"06.25 1.5ms shop 200 success ok"}},
	{"vhost_combined", "", "", []string{
		`shop.example.com:80 10.0.0.1 - - [29/Nov/2026:02:27:06 +0000] "GET / HTTP/1.1" 500 612 "-" "curl"`,
	}, []string{"06 -1ns shop.example.com:80 500 failure status 500"}},
	{"a log_format of nginx's", "nginx:$msec|$status|${request_time}|$upstream_addr|$upstream_status|$upstream_header_time", "", []string{
		`1795919226.500|200|0.300|10.1.0.1:80, 10.1.0.2:80|502, 200|-, 0.100`,
		`1795919226.600|504|0.100|10.1.0.1:80|504|-`,
	}, []string{"06.2 300ms 10.1.0.2:80 200 success ok", "06.5 100ms 10.1.0.1:80 504 failure headers: timeout (transport)"}},
	{"a log_format as it is configured", "nginx:log_format  up  '$remote_addr [$time_iso8601] \"$request\" '\n\t\t'$status $request_time';", "", []string{
		`10.0.0.1 [2026-11-29T02:27:06+00:00] "GET / HTTP/1.1" 200 0.100`,
	}, []string{"06 100ms (all) 200 success ok"}},
	{"a log_format that begins with a quote", `nginx:"$request" $status $msec`, "", []string{
		`"GET / HTTP/1.1" 200 1795919226.5`,
	}, []string{"06.5 -1ns (all) 200 success ok"}},
	{"a LogFormat as it is configured", `apache:LogFormat "%h %t \"%r\" %>s %D %v" timed`, "", []string{
		`10.0.0.1 [29/Nov/2026:02:27:06 +0000] "GET / HTTP/1.1" 200 1000 shop`,
	}, []string{"06 1ms shop 200 success ok"}},
	{"IPv6 upstreams of ingress-nginx", "nginx-ingress", "upstream", []string{
		`::1 - - [29/Nov/2026:02:27:06 +0000] "GET / HTTP/1.1" 200 7 "-" "c" 98 0.004 [ns-svc-80] [] [fd00::1]:8080, [fd00::2]:8080 0, 7 0.001, 0.003 502, 200 id`,
	}, []string{"06.496 1ms [fd00::1]:8080 502 failure status 502", "06.497 3ms [fd00::2]:8080 200 success ok"}},
	{"httpslog, captures", "", "upstream", []string{
		`<134>1 2026-11-29T02:27:06Z host haproxy 12 - - 10.0.0.1:5 [29/Nov/2026:02:27:06.100] fe~ be/s1 0/0/1/2/3 200 13 - - ---- 1/1/0/0/0 0/0 {Mozilla "x" [y]|a b} {z} "GET https://h/p q HTTP/1.1" 0/0/0/0/0 h/TLSv1.3/X`,
		`Nov 29 02:27:06 host haproxy[1]: -:22222 [29/Nov/2026:02:27:06.200] fe be/<NOSRV> 0/-1/-1/-1/2 408 13 - - cR-- 1/1/0/0/0 0/0 "<BADREQ>"`,
		`Nov 29 02:27:06 host haproxy[1]: 10.0.0.1:5 [29/Nov/2026:02:27:06.300] fe be/s1 0/0/1/-1/300 400 13 - - CH-- 1/1/0/0/0 0/0 "GET / HTTP/1.1"`,
		`Nov 29 02:27:06 host haproxy[1]: 10.0.0.1:5 [29/Nov/2026:02:27:06.400] fe/1: SSL handshake failure`,
		`Nov 29 02:27:06 host haproxy[1]: Proxy fe started.`,
	}, []string{
		"06.1 3ms be/s1 200 success ok", "06.2 2ms (all) 408 ignored bad request", "06.3 300ms be/s1 400 ignored canceled",
	}},
	{"zap's lines by a mapping", "json:end=ts,s=duration,status=code,host=peer,error=err", "", []string{
		`{"ts":1795919226.5,"duration":0.4,"code":200,"peer":"a:1"}`,
		`{"ts":1795919226.5,"duration":4e-1,"peer":"a:1","err":"read tcp 1->2: read: connection reset by peer"}`,
		`{"ts":1795919226.5,"duration":"0.4","code":"504","peer":"http://a:1/x"}`,
		`{"ts":1795919226.5,"msg":"something else"}`,
	}, []string{
		"06.1 400ms a:1 200 success ok", "06.1 400ms a:1 0 failure headers: reset", "06.1 400ms a:1 504 failure status 504",
	}},
	{"lines whose fields say what they are", "", "", []string{
		`{"timestamp":"2026-11-29T03:27:06.5+01:00","latency_ms":100,"status_code":502,"upstream":"a:1"}`,
	}, []string{"06.4 100ms a:1 502 failure status 502"}},
	{"old Traefik lines", "", "upstream", []string{
		`{"BackendURL":{"Scheme":"http","Host":"10.1.0.1:80"}, "DownstreamStatus": 200, "Duration": 1000000, "StartLocal": "2026-11-29T02:27:06.1Z"}`,
		`{"BackendAddr":"10.1.0.1:80","DownstreamStatus":502,"Duration":1000000,"OriginStatus":502,"time":"2026-11-29T02:27:06Z"}`,
	}, []string{"05.999 1ms 10.1.0.1:80 502 failure status 502", "06.1 1ms 10.1.0.1:80 200 success ok"}},
	{"Traefik's own pages", "", "", []string{
		`{"BackendAddr":"","BackendName":"Traefik","BackendURL":{"Host":""},"DownstreamStatus":404,"Duration":40356,"OriginStatus":404,"StartUTC":"2026-11-29T02:27:06.1Z"}`,
		`{"DownstreamStatus":200,"Duration":24814,"OriginStatus":200,"RouterName":"ping@internal","StartUTC":"2026-11-29T02:27:06.2Z"}`,
	}, []string{"06.1 40.356µs Traefik 404 ignored local trouble", "06.2 24.814µs (all) 200 ignored local trouble"}},
	{"Envoy's lines in envelopes", "", "", []string{
		`{"message":"ACCESS [2026-11-29T02:27:06.1Z] \"- - -\" 0 UF,URX 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"127.0.0.1:9200\"","stream":"stdout","kubernetes":{"a":{}}}`,
	}, []string{"06.1 0s 127.0.0.1:9200 0 failure connect: refused"}},
	{"old attributes of spans", "", "", []string{
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":3,"startTimeUnixNano":"1795919226100000000","endTimeUnixNano":"1795919226200000000","attributes":[{"key":"http.method","value":{"stringValue":"GET"}},{"key":"http.status_code","value":{"intValue":503}},{"key":"net.peer.name","value":{"stringValue":"a"}},{"key":"net.peer.port","value":{"intValue":"81"}}],"status":{}},{"kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}`,
	}, []string{"06.1 100ms a:81 503 failure status 503"}},
}

func cloudfrontLine(status, result, detail string) string {
	return "2026-11-29\t02:27:06\tFRA2\t100\t10.0.0.1\tGET\td1.cloudfront.net\t/a\t" + status + "\t-\tcurl\t-\t-\t" + result +
		"\tid\tshop.example.com\thttps\t50\t0.123\t-\tTLSv1.3\tX\t" + result + "\tHTTP/2.0\t-\t-\t1234\t0.100\t" + detail +
		"\ttext/html\t100\t-\t-"
}

func gcpLineOf(request, details string) string {
	return `{"insertId":"x","jsonPayload":{"@type":"type.googleapis.com/x","statusDetails":"` + details + `"},"httpRequest":{` +
		`"requestMethod":"GET","requestUrl":"https://shop.example.com/a",` + request + `,"remoteIp":"10.0.0.1"},"resource":` +
		`{"type":"http_load_balancer","labels":{"backend_service_name":"shop-backend"}},"timestamp":"2026-11-29T02:27:06.100000Z"}`
}

func harEntry(response, more string, ms float64) string {
	return fmt.Sprintf(`{%s"startedDateTime":"2026-11-29T02:27:06.100Z","time":%v,"request":{"method":"GET",`+
		`"url":"https://shop.example.com/a?\"q\"","headers":[{"name":"x","value":"[{\""}]},"response":{%s,"content":{"text":"}]"}},`+
		`"timings":{"blocked":1,"send":0,"wait":1,"receive":1}}`, more, ms, response)
}

func TestDocumentedLinesAreReadAsDocumented(t *testing.T) {
	for _, test := range documented {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Join(test.lines, "\n") + "\n"
			calls, keys := readKeys(t, Options{Format: test.format, Key: test.key, Stdin: strings.NewReader(text)}, "-")
			_, report := readAll(t, Options{Format: test.format, Stdin: strings.NewReader(text)}, "-")
			if n := report.Sum().NotUnderstood; n != 0 {
				t.Errorf("%d are not understood: %+v", n, report.Files[0].Strange)
			}
			whole := report.Files[0].Stamp.Resolution == time.Second
			var got []string
			for i := range calls {
				c := &calls[i]
				start := time.Unix(0, c.Start).UTC()
				layout := "05.999"
				if whole && report.Files[0].Calls > 1 || whole && test.key == "" {
					layout = "05" // the rest is by where it comes in its second
				}
				got = append(got, fmt.Sprint(start.Format(layout), " ", c.Took(), " ", keys.Name(c.Key), " ", c.Status, " ",
					c.Outcome(), " ", c.Cause()))
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}
