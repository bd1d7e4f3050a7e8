//go:build linux

package proxies_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// generously is how long anything may take that is sure to come.
const generously = 20 * time.Second

// program is a proxy as Debian packages it.
type program struct {
	name    string
	bin     string
	version []string // what to run it with to be told; nil if it has no such thing
}

var versionNumber = regexp.MustCompile(`\d+\.\d+(\.\d+)*(p\d+)?`)

// find returns the program's path and its version, and "" if this machine does not have it.
func (p program) find(t *testing.T) (path, version string) {
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", "/usr/local/sbin") {
		path = filepath.Join(dir, p.bin)
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		ask := exec.Command(path, p.version...)
		if p.version == nil { // it tells nobody
			ask = exec.Command("dpkg-query", "-W", p.bin)
		}
		said, _ := ask.CombinedOutput()
		if version = versionNumber.FindString(string(said)); version == "" {
			version = "of unknown version"
		}
		return path, version
	}
	require.Empty(t, os.Getenv("FUSEBOX_REQUIRE_PROXIES"), "no %s, and FUSEBOX_REQUIRE_PROXIES is set", p.bin)
	t.Logf("%s is left out: there is no %s on this machine", p.name, p.bin)
	return "", ""
}

// workshop is where a program has its files, among them a certificate for 127.0.0.1 that nobody knows: cert.pem, key.pem and both.pem.
type workshop struct {
	t     *testing.T
	dir   string
	stops []func()
}

func newWorkshop(t *testing.T) *workshop {
	dir, err := os.MkdirTemp("", "fusebox-proxy-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777)) // some give up being root
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &workshop{t: t, dir: dir}
	own := certificate()
	w.file("cert.pem", own.cert)
	w.file("key.pem", own.key)
	w.file("both.pem", own.cert+own.key)
	return w
}

type ownCertificate struct {
	cert, key string
	roots     *x509.CertPool // that accept it
}

var certificate = sync.OnceValue(func() (own ownCertificate) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true, IsCA: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	own.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	own.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	own.roots = x509.NewCertPool()
	own.roots.AppendCertsFromPEM([]byte(own.cert))
	return own
})

// file writes a file in which DIR is the directory, and returns its path.
func (w *workshop) file(name, text string) string {
	path := filepath.Join(w.dir, name)
	require.NoError(w.t, os.MkdirAll(filepath.Dir(path), 0o777))
	require.NoError(w.t, os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", w.dir)), 0o644))
	return path
}

// run starts a program and waits until it listens. It ends with the test, with all that it has started.
func (w *workshop) run(port int, path string, args ...string) {
	t := w.t
	out, err := os.Create(filepath.Join(w.dir, fmt.Sprintf("%s-%d.out", filepath.Base(path), port)))
	require.NoError(t, err)
	defer out.Close()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "RES_OPTIONS=timeout:1 attempts:5")
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop := sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
		}
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	t.Cleanup(stop)
	w.stops = append(w.stops, stop)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(generously)
	for {
		conn, err := net.Dial("tcp", on(port))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-tick.C:
			continue
		case <-ended:
		case <-late:
		}
		logs, _ := filepath.Glob(filepath.Join(w.dir, "*"))
		for _, log := range logs {
			text, _ := os.ReadFile(log)
			t.Logf("%s:\n%s", log, text)
		}
		t.Fatalf("%s does not listen", path)
	}
}

// stop ends all that was started.
func (w *workshop) stop() {
	for _, stop := range w.stops {
		stop()
	}
}

// tool runs a program to its end.
func (w *workshop) tool(path string, args ...string) {
	said, err := exec.Command(path, args...).CombinedOutput()
	require.NoError(w.t, err, "%s", said)
}

func on(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// asRoot is text for programs that give up being root, if they are root.
func asRoot(text string) string {
	if os.Geteuid() == 0 {
		return text
	}
	return ""
}
