package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v9"
	"github.com/elastic/go-elasticsearch/v9/esutil"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// elastic answers as Elasticsearch does, by its documentation: it does not run here.
type elastic struct {
	answer  string // to _bulk
	status  int    // of it; 0 is 200
	arrived atomic.Int64
	url     string
}

func newElastic(t *testing.T) *elastic {
	e := new(elastic)
	e.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.arrived.Add(1)
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/vnd.elasticsearch+json;compatible-with=9")
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		if e.status != 0 {
			w.WriteHeader(e.status)
		}
		io.WriteString(w, e.answer)
	}))
	return e
}

// items makes the answer that of items with these statuses.
func (e *elastic) items(statuses ...int) {
	var items []string
	failed := false
	for _, status := range statuses {
		item := `{"index":{"_index":"a","_id":"1","_version":1,"result":"created","_shards":{"total":2,"successful":1,"failed":0},"_seq_no":0,"_primary_term":1,"status":201}}`
		if status >= 300 {
			failed = true
			item = `{"index":{"_index":"a","_id":"1","status":` + strconv.Itoa(status) +
				`,"error":{"type":"unavailable_shards_exception","reason":"[a][0] primary shard is not active Timeout: [1m], request: [BulkShardRequest [[a][0]] containing [index {[a][1], source[{\"status\": 200}]}]]"}}}`
		}
		items = append(items, item)
	}
	e.answer = `{"errors":` + strconv.FormatBool(failed) + `,"took":60003,"items":[` + strings.Join(items, ",") + `]}`
}

func (e *elastic) client(t *testing.T, rt http.RoundTripper, more ...elastictransport.Option) *elasticsearch.Client {
	client, err := elasticsearch.New(elasticsearch.WithAddresses(e.url),
		elasticsearch.WithTransportOptions(append(more, elastictransport.WithTransport(rt))...))
	require.NoError(t, err)
	return client
}

const document = "{\"index\":{\"_index\":\"a\"}}\n{}\n"

// post makes a _bulk request and returns what was answered.
func post(t *testing.T, client *elasticsearch.Client) (answer string, err error) {
	resp, err := client.Bulk(strings.NewReader(document))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(read), nil
}

func TestElasticBulk(t *testing.T) {
	e := newElastic(t)
	watched, ends := watched(t, policy.ElasticBulk())
	client := e.client(t, watched.Transport)
	for _, c := range []struct {
		statuses []int
		want     policy.Outcome
	}{
		{[]int{201, 201}, policy.Success}, {[]int{503, 503}, policy.Failure}, {[]int{503, 429}, policy.Failure},
		{[]int{201, 503}, policy.Success}, {[]int{429, 429}, policy.Success}, {[]int{400}, policy.Success},
	} {
		e.items(c.statuses...)
		got, err := post(t, client)
		require.NoError(t, err)
		require.Equal(t, e.answer, got)
		require.Equal(t, c.want, last(t, ends), "%v", c.statuses)
	}
}

// By its own rules go-elasticsearch posts four times what fails, at once; what it is told here, it does not do of a refusal.
func TestElasticsearchDoesNotRepeatARefusal(t *testing.T) {
	unlessRefused := elastictransport.WithRetryOnError(func(_ *http.Request, err error) bool {
		return !errors.Is(err, transport.ErrOpen) && !errors.Is(err, transport.ErrLimit)
	})
	for name, c := range map[string]struct {
		breaker []transport.Option
		client  []elastictransport.Option
		want    int
	}{
		"an error, as the recipe has it":   {[]transport.Option{transport.WithRefusalError()}, []elastictransport.Option{unlessRefused}, 1},
		"an error, by its own rules":       {[]transport.Option{transport.WithRefusalError()}, nil, 4},
		"a response, by its own rules":     {nil, nil, 4},
		"a response, as the recipe has it": {nil, []elastictransport.Option{unlessRefused}, 4},
		"a response, by rules for status":  {nil, []elastictransport.Option{elastictransport.WithRetryOnStatus(502, 504)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e := newElastic(t)
			refusals := 0
			rt := transport.New(overHTTP1(t), append(c.breaker, transport.WithObserver(transport.Observer{
				OnRefusal: func(transport.RefusalEvent) { refusals++ },
			}))...)
			rt.Force("*", policy.Open)
			_, err := post(t, e.client(t, rt, c.client...))
			require.Equal(t, c.breaker != nil, errors.Is(err, transport.ErrOpen), "%v", err)
			require.Equal(t, c.want, refusals)
			require.Zero(t, e.arrived.Load())
		})
	}
}

// An upstream that is down gets four posts for one, and its circuit opens the sooner; from then on one refusal is the end.
func TestElasticsearchThatIsDownIsRefused(t *testing.T) {
	e := newElastic(t)
	e.status, e.answer = http.StatusServiceUnavailable, `{"error":{"type":"cluster_block_exception"},"status":503}`
	refusals := 0
	rt := transport.New(overHTTP1(t), transport.WithClassifier(policy.ElasticBulk()), transport.WithRefusalError(),
		transport.WithPolicy(policy.Classic{Failures: 6, OpenFor: time.Hour}),
		transport.WithObserver(transport.Observer{OnRefusal: func(transport.RefusalEvent) { refusals++ }}))
	client := e.client(t, rt, elastictransport.WithRetryOnError(func(_ *http.Request, err error) bool {
		return !errors.Is(err, transport.ErrOpen) && !errors.Is(err, transport.ErrLimit)
	}))
	_, err := post(t, client)
	require.NoError(t, err)
	require.EqualValues(t, 4, e.arrived.Load())
	for n := range 3 {
		_, err = post(t, client)
		require.ErrorIs(t, err, transport.ErrOpen)
		require.EqualValues(t, 6, e.arrived.Load())
		require.Equal(t, n+1, refusals)
	}
}

// Its indexer of many documents tells each of them, once.
func TestTheBulkIndexerOfElasticsearchIsRefused(t *testing.T) {
	e := newElastic(t)
	refusals := 0
	rt := transport.New(overHTTP1(t), transport.WithRefusalError(), transport.WithObserver(transport.Observer{
		OnRefusal: func(transport.RefusalEvent) { refusals++ },
	}))
	rt.Force("*", policy.Open)
	var seen []error
	indexer, err := esutil.NewBulkIndexer(esutil.BulkIndexerConfig{
		Client: e.client(t, rt, elastictransport.WithRetryOnError(func(_ *http.Request, err error) bool { return !errors.Is(err, transport.ErrOpen) })),
		Index:  "a", NumWorkers: 1,
	})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, indexer.Add(t.Context(), esutil.BulkIndexerItem{
			Action: "index", Body: bytes.NewReader([]byte("{}")),
			OnFailure: func(_ context.Context, _ esutil.BulkIndexerItem, _ esutil.BulkIndexerResponseItem, err error) {
				seen = append(seen, err)
			},
		}))
	}
	require.NoError(t, indexer.Close(t.Context()))
	require.Equal(t, 1, refusals)
	require.Len(t, seen, 3)
	for _, err := range seen {
		require.ErrorIs(t, err, transport.ErrOpen)
	}
}
