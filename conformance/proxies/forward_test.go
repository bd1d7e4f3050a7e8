//go:build linux

package proxies_test

import (
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
)

// forward is a forward proxy. Start returns its port; it refuses what goes to forbidden. If it can and is told to, it asks for a
// password and speaks TLS to who comes.
type forward struct {
	program
	socks, password, tls bool
	http2                bool   // over TLS it takes HTTP/2 where that is offered, and answers HTTP/1.1 there in the same way each time
	forbidden            string // "" if it forbids nothing
	start                func(w *workshop, path string, as door) (port int)
}

// door is how a forward proxy lets callers in.
type door struct{ password, tls bool }

const forbiddenName = "forbidden.test"

var forwards = []forward{
	{program{"squid", "squid", []string{"-v"}}, false, true, true, false, forbiddenName, func(w *workshop, path string, as door) int {
		port := testkit.FreePort(w.t)
		auth := "http_access allow all"
		if as.password {
			w.file("passwords", "")
			auth = "auth_param basic program /usr/lib/squid/basic_ncsa_auth DIR/passwords\nacl known proxy_auth REQUIRED\nhttp_access allow known"
		}
		w.run(port, path, "-N", "-n", fmt.Sprint("fusebox", port), "-f", w.file("squid.conf", squidConf(port, as.tls, "")+`
acl forbidden dstdomain forbidden.test
http_access deny forbidden
`+auth+"\n"))
		return port
	}},
	{program{"tinyproxy", "tinyproxy", []string{"-v"}}, false, true, false, false, forbiddenName, func(w *workshop, path string, as door) int {
		port := testkit.FreePort(w.t)
		auth := ""
		if as.password {
			auth = "BasicAuth someone secret\n"
		}
		w.file("filter", "^forbidden\\.test$\n")
		w.run(port, path, "-d", "-c", w.file("tinyproxy.conf", fmt.Sprintf(`Port %d
Listen 127.0.0.1
Timeout 10
Filter "DIR/filter"
LogLevel Critical
%s`, port, auth)))
		return port
	}},
	{program{"privoxy", "privoxy", []string{"--version"}}, false, false, false, false, forbiddenName, func(w *workshop, path string, _ door) int {
		port := testkit.FreePort(w.t)
		w.file("my.action", "{+limit-connect{-}}\n/\n{+block{not this one}}\nforbidden.test\n")
		w.run(port, path, "--no-daemon", w.file("config", fmt.Sprintf(`listen-address 127.0.0.1:%d
confdir DIR
templdir /etc/privoxy/templates
actionsfile my.action
socket-timeout 10
`, port)))
		return port
	}},
	{program{"apache", "apache2", []string{"-v"}}, false, true, true, true, forbiddenName, func(w *workshop, path string, as door) int {
		port := testkit.FreePort(w.t)
		auth := ""
		if as.password {
			auth = `<Proxy "*">
AuthType Basic
AuthName proxy
AuthUserFile DIR/passwords
Require valid-user
</Proxy>
`
		}
		w.file("passwords", "someone:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
		w.run(port, path, "-d", w.dir, "-f", w.file("apache.conf", apacheConf(port, as.tls)+`
LoadModule proxy_connect_module /usr/lib/apache2/modules/mod_proxy_connect.so
ProxyRequests On
AllowCONNECT 1-65535
<ProxyMatch "forbidden\.test">
Require all denied
</ProxyMatch>
`+auth), "-DFOREGROUND")
		return port
	}},
	{program{"trafficserver", "traffic_server", []string{"-V"}}, false, false, true, false, "", func(w *workshop, path string, as door) int {
		return trafficServer(w, path, as.tls, "", 1, "")
	}},
	{program{"dante", "danted", []string{"-v"}}, true, true, false, false, "127.0.0.2", func(w *workshop, path string, as door) int {
		port := testkit.FreePort(w.t)
		method := "none"
		if as.password {
			method = "username"
		}
		w.run(port, path, "-f", w.file("danted.conf", fmt.Sprintf(`logoutput: DIR/danted.log
internal: 127.0.0.1 port = %d
external: 127.0.0.1
socksmethod: %s
clientmethod: none
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks block { from: 0.0.0.0/0 to: 127.0.0.2/32 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`, port, method)))
		return port
	}},
	{program{"microsocks", "microsocks", nil}, true, true, false, false, "", func(w *workshop, path string, as door) int {
		port := testkit.FreePort(w.t)
		args := []string{"-i", "127.0.0.1", "-p", fmt.Sprint(port)}
		if as.password {
			args = append(args, "-u", "someone", "-P", "secret")
		}
		w.run(port, path, args...)
		return port
	}},
	{program{"ssh -D", "sshd", []string{"-V"}}, true, false, false, false, "", func(w *workshop, path string, _ door) int {
		server, port := testkit.FreePort(w.t), testkit.FreePort(w.t)
		w.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.dir+"/host")
		w.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", w.dir+"/key")
		w.tool("cp", w.dir+"/key.pub", w.dir+"/authorized")
		if asRoot("x") != "" {
			w.tool("mkdir", "-p", "/run/sshd") // where it locks itself in
		}
		w.run(server, path, "-D", "-e", "-f", w.file("sshd.conf", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey DIR/host
AuthorizedKeysFile DIR/authorized
StrictModes no
PidFile none
UsePAM no
PermitRootLogin yes
`, server)))
		who, err := user.Current()
		require.NoError(w.t, err)
		w.run(port, "/usr/bin/ssh", "-N", "-F", "none", "-i", w.dir+"/key", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes", "-D", on(port), "-p", fmt.Sprint(server), who.Username+"@127.0.0.1")
		return port
	}},
}

func squidConf(port int, tls bool, mode string) string {
	of := "http_port"
	if tls {
		of, mode = "https_port", mode+" tls-cert=DIR/cert.pem tls-key=DIR/key.pem"
	}
	return fmt.Sprintf(`%s 127.0.0.1:%d%s
pid_filename none
cache deny all
cache_mem 8 MB
access_log none
cache_log DIR/cache.log
coredump_dir DIR
netdb_filename none
pinger_enable off
dns_retransmit_interval 1 seconds
dns_timeout 5 seconds
shutdown_lifetime 0 seconds
visible_hostname localhost
`, of, port, mode)
}

func apacheConf(port int, tls bool) string {
	text := ""
	if tls {
		text = modules("ssl", "http2") + "Protocols h2 http/1.1\nSSLEngine on\nSSLCertificateFile DIR/cert.pem\nSSLCertificateKeyFile DIR/key.pem\n"
	}
	return fmt.Sprintf(`ServerRoot DIR
DefaultRuntimeDir DIR
PidFile DIR/apache.pid
ErrorLog DIR/error.log
ServerName localhost
Listen 127.0.0.1:%d
`, port) + asRoot("User www-data\nGroup www-data\n") + modules("mpm_event", "authz_core", "authn_core", "authn_file", "auth_basic",
		"authz_user", "proxy", "proxy_http") + text
}

func modules(names ...string) (text string) {
	for _, name := range names {
		text += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", name, name)
	}
	return text
}

// trafficServer is a forward proxy if remap is empty, and waits for as many seconds.
func trafficServer(w *workshop, path string, tls bool, remap string, seconds int, more string) int {
	port := testkit.FreePort(w.t)
	for _, dir := range []string{"etc", "log", "run", "cache"} {
		require.NoError(w.t, os.Mkdir(filepath.Join(w.dir, dir), 0o777))
		require.NoError(w.t, os.Chmod(filepath.Join(w.dir, dir), 0o777))
	}
	for _, empty := range []string{"plugin.config", "storage.config", "hosting.config", "volume.config", "cache.config",
		"parent.config", "socks.config", "splitdns.config", "logging.yaml", "sni.yaml", "strategies.yaml"} {
		w.file("etc/"+empty, "")
	}
	w.file("etc/ssl_multicert.config", "dest_ip=* ssl_cert_name=cert.pem ssl_key_name=key.pem\n")
	w.file("etc/remap.config", remap)
	w.file("etc/ip_allow.yaml", "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n")
	forward := 1
	if remap != "" {
		forward = 0
	}
	of := ""
	if tls {
		of = ":ssl"
	}
	w.file("etc/records.config", fmt.Sprintf(`CONFIG proxy.config.http.server_ports STRING %d:ip-in=127.0.0.1%s
CONFIG proxy.config.ssl.server.cert.path STRING DIR
CONFIG proxy.config.ssl.server.private_key.path STRING DIR
CONFIG proxy.config.url_remap.remap_required INT %d
CONFIG proxy.config.reverse_proxy.enabled INT %d
CONFIG proxy.config.http.connect_ports STRING *
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.http.transaction_no_activity_timeout_out INT %d
CONFIG proxy.config.http.connect_attempts_timeout INT 1
CONFIG proxy.config.http.connect_attempts_max_retries INT 0
`, port, of, 1-forward, 1-forward, seconds)+more+asRoot("CONFIG proxy.config.admin.user_id STRING trafficserver\n"))
	w.run(port, path, "--run-root="+w.file("runroot.yaml", `prefix: DIR
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/sbin
sysconfdir: DIR/etc
datadir: DIR/cache
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: DIR
runtimedir: DIR/run
logdir: DIR/log
cachedir: DIR/cache
`))
	return port
}

func (f forward) url(port int) *url.URL {
	u := &url.URL{Scheme: "http", Host: on(port)}
	if f.socks {
		u.Scheme = "socks5"
	}
	return u
}
