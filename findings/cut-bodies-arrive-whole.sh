#!/usr/bin/env bash
# Proxies that hand a body on as a whole one whose server was cut in the middle of a chunk. Seen with
#   haproxy 2.6.12-1+deb12u4 and varnish 7.1.1-2+deb12u1, over HTTP/2 only: over HTTP/1.1 they break it off, too
#   lighttpd 1.4.69-1 and caddy 2.6.2-5, over both (caddy 2.11.9 breaks it off)
#   github.com/elazarl/goproxy v1.9.3, a forward proxy, over HTTP/1.1
# RFC 9112, section 8: such a message is incomplete, and a client has to take it as that. After these proxies it cannot. For a circuit
# breaker it means that the end of an upstream behind one of them is a success.
# It needs Debian 12, gcc, Go and a module proxy. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
packages=(haproxy=2.6.12-1+deb12u4 liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 varnish=7.1.1-2+deb12u1 libjemalloc2
	lighttpd=1.4.69-1 libnettle8 libxxhash0 caddy=2.6.2-5)
{ apt-get download "${packages[@]}" || { apt-get update && apt-get download "${packages[@]}"; }; } >log 2>&1 || { cat log; exit 1; }
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/usr/lib/x86_64-linux-gnu/varnish HOME=$folder

mkdir check
cat >check/main.go <<'END'
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/elazarl/goproxy"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// cut answers with a whole chunk and a part of one, and closes.
func cut(l net.Listener) {
	for {
		c, err := l.Accept()
		must(err)
		go func() {
			defer c.Close()
			c.Read(make([]byte, 64<<10))
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n64\r\nsome of it")
			time.Sleep(300 * time.Millisecond) // the proxy has sent the headers on
		}()
	}
}

func free() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer l.Close()
	return l.Addr().String()
}

func get(name string, tr *http.Transport, target string) {
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 20 * time.Second}
	var err error
	for range 500 {
		var resp *http.Response
		if resp, err = client.Get(target); err != nil { // it does not listen yet
			time.Sleep(20 * time.Millisecond)
			continue
		}
		defer resp.Body.Close()
		_, err = io.ReadAll(resp.Body)
		fmt.Printf("%s, %s, %s: whole %v\n", name, resp.Proto, resp.Status, err == nil)
		return
	}
	panic(fmt.Sprint(name, " does not answer: ", err))
}

func main() {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go cut(backend)
	to := backend.Addr().String()
	_, toPort, _ := net.SplitHostPort(to)
	dir, err := os.Getwd()
	must(err)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	pems := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	must(os.WriteFile("both.pem", []byte(pems), 0o644))

	// run starts a program with a configuration, in which words are replaced, and makes a call over each protocol.
	run := func(name, config string, command ...string) {
		one, two := free(), free() // for HTTP/1.1, and for HTTP/2 where that is not the same
		_, onePort, _ := net.SplitHostPort(one)
		words := strings.NewReplacer("TO:", to, "TOPORT", toPort, "ONE:", one, "ONEPORT", onePort, "TWO:", two, "DIR", dir, "CONFIG", filepath.Join(dir, name+".conf"))
		must(os.WriteFile(name+".conf", []byte(words.Replace(config)), 0o644))
		for i, arg := range command {
			command[i] = words.Replace(arg)
		}
		cmd := exec.Command(command[0], command[1:]...)
		out, err := os.Create(name + ".log")
		must(err)
		cmd.Stdout, cmd.Stderr = out, out
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		must(cmd.Start())
		defer cmd.Wait()
		defer cmd.Process.Signal(syscall.SIGTERM)
		get(name, &http.Transport{}, "http://"+one)
		only2 := new(http.Protocols)
		only2.SetHTTP2(true)
		only2.SetUnencryptedHTTP2(true)
		second := "http://" + one
		if strings.Contains(config, "TWO:") {
			second = "https://" + two
		}
		get(name, &http.Transport{Protocols: only2, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, second)
	}
	run("haproxy", `defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen all
  bind ONE:
  bind TWO: ssl crt DIR/both.pem alpn h2
  server backend TO:
`, "usr/sbin/haproxy", "-db", "-f", "CONFIG")
	run("varnish", `vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "TOPORT"; }
sub vcl_recv { return (pass); }
`, "usr/sbin/varnishd", "-F", "-j", "none", "-a", "ONE:", "-T", "127.0.0.1:0", "-n", "DIR/varnish", "-s", "malloc,16m", "-p", "feature=+http2", "-f", "CONFIG")
	run("lighttpd", `server.port = ONEPORT
server.bind = "127.0.0.1"
server.document-root = "DIR"
server.modules = ("mod_proxy")
proxy.server = ("" => (("host" => "127.0.0.1", "port" => TOPORT)))
`, "usr/sbin/lighttpd", "-D", "-m", "usr/lib/lighttpd", "-f", "CONFIG")
	run("caddy", `{
	admin off
	auto_https off
}
http://ONE: {
	bind 127.0.0.1
	reverse_proxy TO:
}
https://TWO: {
	bind 127.0.0.1
	tls DIR/both.pem DIR/both.pem
	reverse_proxy TO:
}
`, "usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", "CONFIG")

	forward := goproxy.NewProxyHttpServer()
	forward.Logger = log.New(io.Discard, "", 0)
	proxy := httptest.NewServer(forward)
	defer proxy.Close()
	u, err := url.Parse(proxy.URL)
	must(err)
	get("goproxy", &http.Transport{Proxy: http.ProxyURL(u), DisableKeepAlives: true}, "http://"+to)
}
END
{
	cd check
	go mod init finding
	go get github.com/elazarl/goproxy@v1.9.3
	go mod tidy
	go build -o ../run .
	cd ..
} >log 2>&1 || { cat "$folder/log"; exit 1; }
seen=$(./run 2>&1) || { printf '%s\n' "$seen"; tail -n 20 ./*.log; exit 1; }
expected='haproxy, HTTP/1.1, 200 OK: whole false
haproxy, HTTP/2.0, 200 OK: whole true
varnish, HTTP/1.1, 200 OK: whole false
varnish, HTTP/2.0, 200 OK: whole true
lighttpd, HTTP/1.1, 200 OK: whole true
lighttpd, HTTP/2.0, 200 OK: whole true
caddy, HTTP/1.1, 200 OK: whole true
caddy, HTTP/2.0, 200 OK: whole true
goproxy, HTTP/1.1, 200 OK: whole true'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
