package write

import (
	"context"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
)

// TokenAudience is what the agents' tokens are made for: one of another
// audience, which any pod has, is none.
const TokenAudience = "vragent"

// Keys of what the API server says about a token that is bound to a pod.
const (
	podNameKey = "authentication.kubernetes.io/pod-name"
	podUIDKey  = "authentication.kubernetes.io/pod-uid"
)

// Node is the node of the pod that a token is bound to; empty, with a reason,
// when the token is not that of an agent of ours.
func (w *Writer) Node(ctx context.Context, token string) (node, reason string, err error) {
	if token == "" {
		return "", "there is no token", nil
	}
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{TokenAudience}},
	}
	if err := w.tokens.Post().Resource("tokenreviews").Body(review).Do(ctx).Into(review); err != nil {
		return "", "", fmt.Errorf("TokenReview: %w", err)
	}
	s := review.Status
	account := "system:serviceaccount:" + w.config.Namespace + ":" + w.config.Account
	switch {
	case !s.Authenticated || !slices.Contains(s.Audiences, TokenAudience):
		return "", "the token is not valid for audience " + TokenAudience, nil
	case s.User.Username != account:
		return "", fmt.Sprintf("the token is that of %s, agents are %s", s.User.Username, account), nil
	case len(s.User.Extra[podNameKey]) != 1 || len(s.User.Extra[podUIDKey]) != 1:
		return "", "the token is not bound to a pod", nil
	}
	name, uid := s.User.Extra[podNameKey][0], s.User.Extra[podUIDKey][0]
	pod, known := w.config.Pod(w.config.Namespace, name)
	switch {
	case !known || pod.UID != uid: // the API server knows it: the token would not be valid else
		return "", "", fmt.Errorf("pod %s/%s is not known yet", w.config.Namespace, name)
	case pod.Node == "":
		return "", fmt.Sprintf("pod %s/%s is on no node", w.config.Namespace, name), nil
	}
	return pod.Node, "", nil
}
