package recipes

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// newGateway answers as a gRPC-gateway does by its defaults, without its runtime, which brings the whole of gRPC:
// errors are the JSON of google.rpc.Status.
func newGateway(t *testing.T) *upstream {
	return newUpstream(t, answer(http.StatusOK, "application/json", `{"name": "users/1"}`),
		answer(http.StatusServiceUnavailable, "application/json", `{"code":14,"message":"no backend","details":[]}`))
}

func callGateway(client *http.Client, url string) error {
	// recipe: gateway
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if reason := transport.RefusedBecause(resp); reason != policy.NotRefused { // its body is text
		return fmt.Errorf("the gateway was not asked, circuit: %s, retry after %s s", reason, resp.Header.Get("Retry-After"))
	}
	if resp.StatusCode != http.StatusOK {
		var failed status.Status
		if err := protojson.Unmarshal(body, &failed); err != nil {
			return fmt.Errorf("%s, and not from the gateway", resp.Status)
		}
		return fmt.Errorf("the gateway answered %s: %s", code.Code(failed.GetCode()), failed.GetMessage())
	}
	// end
	return nil
}

func TestGateway(t *testing.T) {
	server := newGateway(t)
	breaker := transport.New(nil)
	var failed error
	untilRefused(t, breaker, server, func() bool {
		err := callGateway(&http.Client{Transport: breaker}, server.URL)
		if err == nil || strings.HasPrefix(err.Error(), "the gateway answered") {
			require.Equal(t, server.down.Load(), err != nil)
			failed = err
			return false
		}
		sees(t, "gateway", failed.Error()+"\n"+err.Error())
		return true
	})
}

func TestGatewayRefusalIsAStatus(t *testing.T) {
	server := newGateway(t)

	// recipe: gateway-status
	breaker := transport.New(nil, transport.WithRefusal(
		func(req *http.Request, open *transport.RefusedError) (*http.Response, error) {
			body, err := protojson.Marshal(&status.Status{Code: int32(code.Code_UNAVAILABLE), Message: open.Error()})
			if err != nil {
				return nil, err
			}
			header := http.Header{"Content-Type": {"application/json"}}
			return transport.Response(http.StatusServiceUnavailable, header, string(body))(req, open)
		},
	))
	// end

	client := &http.Client{Transport: breaker}
	untilRefused(t, breaker, server, func() bool {
		resp, err := client.Get(server.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
		if !transport.Refused(resp) {
			return false
		}
		var refused status.Status
		require.NoError(t, protojson.Unmarshal(body, &refused))
		sees(t, "gateway-status", fmt.Sprintf("%d, code %d: %s", resp.StatusCode, refused.GetCode(), refused.GetMessage()))
		return true
	})
}
