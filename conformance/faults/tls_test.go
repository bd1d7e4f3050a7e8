//go:build linux

package faults_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"time"

	"github.com/stretchr/testify/require"
)

// certificate is what is wrong with the upstream's certificate, or with what is agreed on.
type certificate struct {
	name      string // upstream.test unless it is another's
	unknown   bool   // to the client
	expired   bool
	oldClient bool // than the upstream's least version
	mutual    bool // the upstream wants one of the client's
}

func https(s *scene) { s.url = "https://upstream.test/" }

func withServer(handle func(*conn)) func(*scene) {
	return func(s *scene) { s.serve(handle) }
}

// readHello reads the client's first TLS record whole, so that closing the connection does not reset it.
func readHello(c *conn) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(c.in, header); err == nil {
		io.CopyN(io.Discard, c.in, int64(header[3])<<8|int64(header[4]))
	}
}

func withTLS(fault certificate) func(*scene) {
	return func(s *scene) {
		https(s)
		if fault.name == "" {
			fault.name = "upstream.test"
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(s.t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{fault.name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		}
		if fault.expired {
			template.NotAfter = time.Now().AddDate(-1, 0, 0)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(s.t, err)
		leaf, err := x509.ParseCertificate(der)
		require.NoError(s.t, err)

		server := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
		s.base.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		if !fault.unknown {
			s.base.TLSClientConfig.RootCAs.AddCert(leaf)
		}
		if fault.mutual {
			// By TLS 1.3 the client would hear of it after the handshake, at a moment that is never the same.
			server.ClientAuth, server.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12
		}
		if fault.oldClient {
			server.MinVersion, s.base.TLSClientConfig.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
		}
		s.listen(func(raw net.Conn) {
			tls.Server(raw, server).Handshake()
		})
	}
}
