//go:build linux

package proxies_test

import (
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"

	"github.com/stretchr/testify/require"
)

// forward is a forward proxy. Start returns its URL; it refuses what goes to forbidden, and if it can ask for a password and is told to,
// what comes without it.
type forward struct {
	program
	socks, password bool
	forbidden       string // "" if it forbids nothing
	start           func(w *workshop, path string, password bool) (port int)
}

const forbiddenName = "forbidden.test"

var forwards = []forward{
	{program{"squid", "squid", []string{"-v"}}, false, true, forbiddenName, func(w *workshop, path string, password bool) int {
		port := freePort(w.t)
		auth := "http_access allow all"
		if password {
			w.file("passwords", "")
			auth = "auth_param basic program /usr/lib/squid/basic_ncsa_auth DIR/passwords\nacl known proxy_auth REQUIRED\nhttp_access allow known"
		}
		w.run(port, path, "-N", "-n", fmt.Sprint("fusebox", port), "-f", w.file("squid.conf", squidConf(port, "")+`
acl forbidden dstdomain forbidden.test
http_access deny forbidden
`+auth+"\n"))
		return port
	}},
	{program{"tinyproxy", "tinyproxy", []string{"-v"}}, false, true, forbiddenName, func(w *workshop, path string, password bool) int {
		port := freePort(w.t)
		auth := ""
		if password {
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
	{program{"privoxy", "privoxy", []string{"--version"}}, false, false, forbiddenName, func(w *workshop, path string, _ bool) int {
		port := freePort(w.t)
		w.file("my.action", "{+limit-connect{-}}\n/\n{+block{not this one}}\nforbidden.test\n")
		w.run(port, path, "--no-daemon", w.file("config", fmt.Sprintf(`listen-address 127.0.0.1:%d
confdir DIR
templdir /etc/privoxy/templates
actionsfile my.action
socket-timeout 10
`, port)))
		return port
	}},
	{program{"apache", "apache2", []string{"-v"}}, false, true, forbiddenName, func(w *workshop, path string, password bool) int {
		port := freePort(w.t)
		auth := ""
		if password {
			auth = `<Proxy "*">
AuthType Basic
AuthName proxy
AuthUserFile DIR/passwords
Require valid-user
</Proxy>
`
		}
		w.file("passwords", "someone:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
		w.run(port, path, "-d", w.dir, "-f", w.file("apache.conf", apacheConf(port)+`
LoadModule proxy_connect_module /usr/lib/apache2/modules/mod_proxy_connect.so
ProxyRequests On
AllowCONNECT 1-65535
<ProxyMatch "forbidden\.test">
Require all denied
</ProxyMatch>
`+auth), "-DFOREGROUND")
		return port
	}},
	{program{"trafficserver", "traffic_server", []string{"-V"}}, false, false, "", func(w *workshop, path string, _ bool) int {
		return trafficServer(w, path, "")
	}},
	{program{"dante", "danted", []string{"-v"}}, true, true, "127.0.0.2", func(w *workshop, path string, password bool) int {
		port := freePort(w.t)
		method := "none"
		if password {
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
	{program{"microsocks", "microsocks", nil}, true, true, "", func(w *workshop, path string, password bool) int {
		port := freePort(w.t)
		args := []string{"-i", "127.0.0.1", "-p", fmt.Sprint(port)}
		if password {
			args = append(args, "-u", "someone", "-P", "secret")
		}
		w.run(port, path, args...)
		return port
	}},
	{program{"ssh -D", "sshd", []string{"-V"}}, true, false, "", func(w *workshop, path string, _ bool) int {
		server, port := freePort(w.t), freePort(w.t)
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

func squidConf(port int, mode string) string {
	return fmt.Sprintf(`http_port 127.0.0.1:%d%s
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
`, port, mode)
}

func apacheConf(port int) string {
	return fmt.Sprintf(`ServerRoot DIR
DefaultRuntimeDir DIR
PidFile DIR/apache.pid
ErrorLog DIR/error.log
ServerName localhost
Listen 127.0.0.1:%d
`, port) + asRoot("User www-data\nGroup www-data\n") + modules("mpm_event", "authz_core", "authn_core", "authn_file", "auth_basic",
		"authz_user", "proxy", "proxy_http")
}

func modules(names ...string) (text string) {
	for _, name := range names {
		text += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", name, name)
	}
	return text
}

// trafficServer is a forward proxy if remap is empty.
func trafficServer(w *workshop, path, remap string) int {
	port := freePort(w.t)
	for _, dir := range []string{"etc", "log", "run", "cache"} {
		require.NoError(w.t, os.Mkdir(filepath.Join(w.dir, dir), 0o777))
		require.NoError(w.t, os.Chmod(filepath.Join(w.dir, dir), 0o777))
	}
	for _, empty := range []string{"plugin.config", "storage.config", "ssl_multicert.config", "hosting.config", "volume.config", "cache.config",
		"parent.config", "socks.config", "splitdns.config", "logging.yaml", "sni.yaml", "strategies.yaml"} {
		w.file("etc/"+empty, "")
	}
	w.file("etc/remap.config", remap)
	w.file("etc/ip_allow.yaml", "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n")
	forward := 1
	if remap != "" {
		forward = 0
	}
	w.file("etc/records.config", fmt.Sprintf(`CONFIG proxy.config.http.server_ports STRING %d:ip-in=127.0.0.1
CONFIG proxy.config.url_remap.remap_required INT %d
CONFIG proxy.config.reverse_proxy.enabled INT %d
CONFIG proxy.config.http.connect_ports STRING *
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.http.transaction_no_activity_timeout_out INT 1
CONFIG proxy.config.http.connect_attempts_timeout INT 1
CONFIG proxy.config.http.connect_attempts_max_retries INT 0
`, port, 1-forward, 1-forward)+asRoot("CONFIG proxy.config.admin.user_id STRING trafficserver\n"))
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
