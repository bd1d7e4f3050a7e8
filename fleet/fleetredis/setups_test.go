package fleetredis_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// everything uses all of the package with a client of its own for each part, and waits until it has worked.
func everything(t *testing.T, connect func() redis.UniversalClient) (a, b *member) {
	client := func() redis.UniversalClient {
		c := connect()
		t.Cleanup(func() { c.Close() })
		return c
	}
	a, b = join(t, client(), "a"), join(t, client(), "b")
	agree(t, a, b)
	late := join(t, client(), "late")
	agree(t, a, b, late)

	storage := fleetredis.NewStorage(client(), fleetredis.Options{})
	require.NoError(t, storage.Save(record("stored", policy.Open)))
	storage.Close()
	storage = fleetredis.NewStorage(client(), fleetredis.Options{})
	defer storage.Close()
	_, err := storage.Load(record("stored", policy.Open).Key)
	require.NoError(t, err)

	operator := fleetredis.NewAdmin(client(), fleetredis.Options{})
	require.Eventually(t, func() bool { // what waits for a connection for too long is not said any more
		a.Send(fleet.Message{Key: policy.Key{Host: "agree"}, Kind: fleet.Opened, For: time.Minute})
		open, err := operator.Open(t.Context())
		require.NoError(t, err)
		return len(open) > 0
	}, patience, 50*time.Millisecond)
	force(t, operator, "x", policy.Open, time.Minute)
	_, err = operator.Overrides(t.Context())
	require.NoError(t, err)
	_, err = operator.Release(t.Context(), "x")
	require.NoError(t, err)
	a.Send(fleet.Message{Key: policy.Key{Host: "agree"}, Kind: fleet.Recovered})
	agree(t, a, b, late)
	for _, m := range []*member{a, b, late} {
		assert.Empty(t, m.log.unexplained(), "warnings of %s", m.name)
	}
	return a, b
}

// rights makes the user of the README on a server, with more rights if there are some, and takes the default user's away.
func rights(t *testing.T, s *server, more ...string) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	rules := regexp.MustCompile(`(?m)^ACL SETUSER fusebox (.*)$`).FindSubmatch(readme)
	require.NotNil(t, rules, "the README's ACL")
	command := []any{"ACL", "SETUSER", "fusebox"}
	for _, rule := range append(strings.Fields(strings.ReplaceAll(string(rules[1]), "{shop}", "{default}")), more...) {
		command = append(command, rule)
	}
	admin(t, s, command...)
	admin(t, s, "ACL", "SETUSER", "default", "off")
}

func TestAUserWithTheRightsOfTheReadmeIsEnough(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	rights(t, s)
	everything(t, func() redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: s.addr, Username: "fusebox", Password: "secret"})
	})
	c := redis.NewClient(&redis.Options{Addr: s.addr, Username: "fusebox", Password: "secret"})
	defer c.Close()
	for name, err := range map[string]error{
		"another key":     c.Set(t.Context(), "x", "y", 0).Err(),
		"another channel": c.Publish(t.Context(), "x", "y").Err(),
		"FLUSHALL":        c.FlushAll(t.Context()).Err(),
	} {
		assert.ErrorContains(t, err, "NOPERM", name)
	}
}

func TestAUserWithTheRightsOfTheReadmeIsEnoughOnACluster(t *testing.T) {
	realRedis(t)
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	more := regexp.MustCompile("On a cluster the client needs `([^`]*)` as well").FindSubmatch(readme)
	require.NotNil(t, more, "the README's rights on a cluster")
	nodes := startCluster(t)
	var addrs []string
	for _, s := range nodes {
		addrs = append(addrs, s.addr)
		admin(t, s, "ACL", "SETUSER", "watch", "on", ">secret", "+acl")
		rights(t, s, strings.Fields(string(more[1]))...)
	}
	everything(t, func() redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Username: "fusebox", Password: "secret"})
	})
	for _, s := range nodes {
		c := redis.NewClient(&redis.Options{Addr: s.addr, Username: "watch", Password: "secret"})
		denied, err := c.ACLLog(t.Context(), 100).Result()
		require.NoError(t, err)
		for _, d := range denied {
			assert.NotEqual(t, "fusebox", d.Username, "may not %v", d.Object)
		}
		c.Close()
	}
}

func TestAMemberThatMayNotUseScriptsHearsTheOthers(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	admin(t, s, "ACL", "SETUSER", "poor", "on", ">secret", "+subscribe", "+publish", "&*")
	poor := redis.NewClient(&redis.Options{Addr: s.addr, Username: "poor", Password: "secret"})
	defer poor.Close()
	a, b := join(t, poor, "a"), join(t, s.client(t), "b")
	agree(t, a, b)
	assert.Equal(t, 1, a.log.count(slog.LevelWarn))
	a.Close()
}

func TestOverTLS(t *testing.T) {
	realRedis(t)
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: cert}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
	}
	secure := testkit.FreeAddress(t)
	_, port, err := net.SplitHostPort(secure)
	require.NoError(t, err)
	startRedis(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"), "--tls-auth-clients", "no")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	everything(t, func() redis.UniversalClient {
		return redis.NewClient(&redis.Options{Addr: secure, TLSConfig: &tls.Config{RootCAs: roots}})
	})
}

// startCluster starts three nodes.
func startCluster(t *testing.T) (nodes []*server) {
	for range 3 {
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"))
	}
	for i, s := range nodes {
		admin(t, s, "CLUSTER", "ADDSLOTSRANGE", i*5461, []int{5460, 10921, 16383}[i])
	}
	_, port, _ := net.SplitHostPort(nodes[0].addr)
	for _, s := range nodes[1:] {
		admin(t, s, "CLUSTER", "MEET", "127.0.0.1", port)
	}
	for _, s := range nodes {
		c := s.client(t)
		require.Eventually(t, func() bool {
			info, err := c.ClusterInfo(t.Context()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		}, 2*patience, 20*time.Millisecond)
	}
	return nodes
}

func TestOverACluster(t *testing.T) {
	realRedis(t)
	t.Parallel()
	nodes := startCluster(t)
	var addrs []string
	for _, s := range nodes {
		addrs = append(addrs, s.addr)
	}
	a, b := everything(t, func() redis.UniversalClient {
		return redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	})
	// The node that has the slot goes away and comes back, with its part of the cluster.
	slots, err := nodes[0].client(t).ClusterKeySlot(t.Context(), "fusebox:{default}:v1").Result()
	require.NoError(t, err)
	owner := nodes[min(int(slots)/5461, 2)]
	owner.kill()
	talk(t, a, time.Second)
	owner.start(t)
	t.Logf("agree %v after its node is back", agree(t, a, b))
	assert.LessOrEqual(t, a.log.count(slog.LevelWarn), 1)
}

func TestSentinelFailsOver(t *testing.T) {
	realRedis(t)
	t.Parallel()
	master := startRedis(t)
	_, port, err := net.SplitHostPort(master.addr)
	require.NoError(t, err)
	replica := startRedis(t, "--replicaof", "127.0.0.1 "+port)
	require.Eventually(t, func() bool {
		info, err := master.client(t).Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "state=online")
	}, 2*patience, 50*time.Millisecond)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, os.WriteFile(config, []byte(strings.Join([]string{
		"sentinel monitor shop 127.0.0.1 " + port + " 1",
		"sentinel down-after-milliseconds shop 1000",
		"sentinel failover-timeout shop 5000",
		"",
	}, "\n")), 0o600))
	sentinel := startSentinel(t, config)
	ask := redis.NewSentinelClient(&redis.Options{Addr: sentinel.addr})
	defer ask.Close()
	require.Eventually(t, func() bool {
		replicas, err := ask.Replicas(t.Context(), "shop").Result()
		return err == nil && len(replicas) == 1
	}, 2*patience, 50*time.Millisecond)
	a, b := everything(t, func() redis.UniversalClient {
		return redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "shop", SentinelAddrs: []string{sentinel.addr}})
	})
	start := time.Now()
	master.kill()
	require.Eventually(t, func() bool {
		a.Send(fleet.Message{Key: policy.Key{Host: "x"}, Kind: fleet.Opened, For: time.Minute})
		role, err := replica.client(t).Do(t.Context(), "ROLE").Slice()
		return err == nil && role[0] == "master"
	}, 2*patience, 50*time.Millisecond)
	failedOver := time.Since(start)
	t.Logf("failed over %v after the master died; agree %v later", failedOver, agree(t, a, b))
	assert.InDelta(t, 1, a.log.count(slog.LevelWarn), 1)
}
