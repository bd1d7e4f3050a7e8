package transport

import (
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// RPCUnavailable is a RefusalFunc for clients of gRPC, gRPC-Web and connect, which make of a plain 503 what their
// protocol has for a proxy that is at fault: WithRefusal(RPCUnavailable). They get the error code unavailable in their
// own form, with the text of RefusedError as its message, and Retry-After among its metadata. Every other request gets
// a 503 with a line of text, as by Response. All of these texts name the upstream.
//
// Such clients hide the response. That an error is a refusal they tell by the metadata of the response, which has the
// header that Refused looks for: with connect, Refused(&http.Response{Header: err.Meta()}), for streams by the stream's
// ResponseHeader.
func RPCUnavailable(req *http.Request, e *RefusedError) (*http.Response, error) {
	if req == nil {
		req = new(http.Request)
	}
	if e == nil {
		e = new(RefusedError)
	}
	kind := req.Header.Get("Content-Type")
	header := make(http.Header, 6)
	header.Set("Content-Type", kind)
	switch bare := strings.ToLower(kind); {
	case strings.HasPrefix(bare, "application/grpc"):
		header.Set("Grpc-Status", "14")
		header.Set("Grpc-Message", url.PathEscape(e.Error()))
		return overHTTP2(Response(http.StatusOK, header, "")(req, e))
	case strings.HasPrefix(bare, "application/connect+"):
		metadata := make(map[string][]string)
		if after := e.header(); after != "" {
			metadata["retry-after"] = []string{after}
		}
		end, err := json.Marshal(connectEnd{connectError{"unavailable", e.Error()}, metadata})
		if err != nil {
			return nil, err
		}
		frame := binary.BigEndian.AppendUint32([]byte{2}, uint32(len(end)))
		return overHTTP2(Response(http.StatusOK, header, string(frame)+string(end))(req, e))
	case req.Header.Get("Connect-Protocol-Version") != "",
		req.URL != nil && strings.Contains("&"+req.URL.RawQuery, "&connect=v"):
		header.Set("Content-Type", "application/json")
		body, err := json.Marshal(connectError{"unavailable", e.Error()})
		if err != nil {
			return nil, err
		}
		return Response(http.StatusServiceUnavailable, header, string(body))(req, e)
	}
	return Response(http.StatusServiceUnavailable, nil, "")(req, e)
}

type connectError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type connectEnd struct {
	Error    connectError        `json:"error"`
	Metadata map[string][]string `json:"metadata"`
}

// overHTTP2 says that a response came as gRPC has to come: a client may take no other.
func overHTTP2(resp *http.Response, err error) (*http.Response, error) {
	resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/2.0", 2, 0
	return resp, err
}
