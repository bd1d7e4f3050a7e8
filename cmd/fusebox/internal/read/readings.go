package read

import (
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// reading is what a line is taken for. What is read from it besides does not change it.
type reading uint8

const (
	answered reading = iota
	answeredThenLeft
	tunneled
	failedStatus
	connectRefused
	connectTimeout
	headersTimeout
	headersReset
	bodyBroke
	bodyTimeout
	noServer
	notHTTP
	noName
	badCertificate
	failedOther
	callerLeft
	cutBySomebody
	byItself
	fromCache
	queueOrLimit
	badRequest
	noStatus
	stillOpen
	neverSent
	judgedSuccess
	judgedFailure
	judgedIgnored
	refusedBefore
	readings int = iota
)

// meanings are the words for each, and the cause of its calls.
var meanings = [readings]struct {
	words string
	cause policy.Cause
}{
	answered:         {"the upstream answered", policy.Cause{}},
	answeredThenLeft: {"the upstream answered, and the caller left in the body", policy.Cause{}},
	tunneled:         {"a tunnel or an upgraded connection", policy.Cause{}},
	failedStatus:     {"a status of 5xx", policy.Cause{Kind: policy.KindStatus}},
	connectRefused:   {"the connection failed", policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}},
	connectTimeout: {"connecting took too long",
		policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}},
	headersTimeout: {"the answer took too long",
		policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}},
	headersReset: {"the connection broke before an answer",
		policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}},
	bodyBroke: {"the body broke", policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindReset}},
	bodyTimeout: {"the body stalled for too long",
		policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}},
	noServer: {"no server of the group was taken to be alive",
		policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}},
	notHTTP: {"the answer was not HTTP", policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindOther}},
	noName:  {"the host has no address", policy.Cause{Phase: policy.PhaseDNS, Kind: policy.KindNotFound}},
	badCertificate: {"the certificate was not accepted",
		policy.Cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}},
	failedOther:   {"another error", policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindOther}},
	callerLeft:    {"the caller left before an answer", policy.Cause{Kind: policy.KindCanceled}},
	cutBySomebody: {"cut off in the body, by whom is not said", policy.Cause{Kind: policy.KindCanceled}},
	byItself:      {"the proxy answered by itself", policy.Cause{Kind: policy.KindLocal}},
	fromCache:     {"answered from a cache", policy.Cause{Kind: policy.KindLocal}},
	queueOrLimit:  {"a queue or a limit of the proxy", policy.Cause{Kind: policy.KindLocal}},
	badRequest:    {"no request that could be sent on", policy.Cause{Kind: policy.KindBadRequest}},
	noStatus:      {"no status: a connection passed through, or nothing came", policy.Cause{Kind: policy.KindCanceled}},
	stillOpen:     {"still under way when the record was made", policy.Cause{Kind: policy.KindCanceled}},
	neverSent:     {"never sent", policy.Cause{Kind: policy.KindLocal}},
	judgedSuccess: {"a success by the classifier", policy.Cause{}},
	judgedFailure: {"a failure by the classifier", policy.Cause{Kind: policy.KindJudged}},
	judgedIgnored: {"ignored by the classifier", policy.Cause{Kind: policy.KindBadRequest}},
	refusedBefore: {"refused by a circuit when it was made", policy.Cause{Kind: policy.KindLocal}},
}

// outcomes are the outcomes of the readings.
var outcomes = func() (all [readings]policy.Outcome) {
	for i := range meanings {
		all[i] = meanings[i].cause.Outcome()
	}
	return all
}()

// templates are calls of the readings, in which nothing is set but what the reading tells.
var templates = func() (all [readings]record.Call) {
	for i := range meanings {
		all[i].SetCause(meanings[i].cause)
		all[i].SetOutcome(outcomes[i])
	}
	return all
}()

// byStatus is the reading of a status that may be the upstream's.
func byStatus(status int) reading {
	switch {
	case status >= 500:
		return failedStatus
	case status == 499, status == 0:
		return callerLeft
	case status == 101:
		return tunneled
	case status < 100:
		return notHTTP
	}
	return answered
}
