package write

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Names of what the authority is kept in: the Secret for controllers, the
// ConfigMap, without the key, for agents.
const (
	authorityName = "vragent-ca"
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// Authority returns the cluster's certificate authority as PEM. The first
// controller that finds none makes it: of several, the API server lets one
// create the Secret. It waits for an API server that does not answer.
func (w *Writer) Authority(ctx context.Context, make func(time.Time) (cert, key []byte, err error)) (cert, key []byte, err error) {
	for wait := time.Second; ; wait = min(2*wait, 15*time.Second) {
		secret, err := w.secret(ctx, make)
		if err == nil {
			err = w.publish(ctx, secret.Data[authorityCert])
		}
		if err == nil {
			return secret.Data[authorityCert], secret.Data[authorityKey], nil
		}
		w.config.Log.Warn("the certificate authority is not there yet", "error", err)
		if !pause(ctx, wait) {
			return nil, nil, ctx.Err()
		}
	}
}

func (w *Writer) secret(ctx context.Context, make func(time.Time) (cert, key []byte, err error)) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var there corev1.Secret
	read := func() error {
		return w.core.Get().Namespace(w.config.Namespace).Resource("secrets").Name(authorityName).Do(ctx).Into(&there)
	}
	err := read()
	if apierrors.IsNotFound(err) {
		var cert, key []byte
		if cert, key, err = make(time.Now()); err != nil {
			return nil, err
		}
		wanted := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: authorityName},
			Type:       corev1.SecretTypeOpaque,
			Data:       map[string][]byte{authorityCert: cert, authorityKey: key},
		}
		err = w.core.Post().Namespace(w.config.Namespace).Resource("secrets").Body(wanted).Do(ctx).Into(&there)
		switch {
		case err == nil:
			w.config.Log.Info("certificate authority made", "secret", w.config.Namespace+"/"+authorityName)
		case apierrors.IsAlreadyExists(err):
			err = read()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("Secret %s/%s: %w", w.config.Namespace, authorityName, err)
	}
	return &there, nil
}

// publish puts the certificate where agents find it.
func (w *Writer) publish(ctx context.Context, cert []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: authorityName},
		Data:       map[string]string{authorityCert: string(cert)},
	}
	var there corev1.ConfigMap
	err := w.core.Get().Namespace(w.config.Namespace).Resource("configmaps").Name(authorityName).Do(ctx).Into(&there)
	switch {
	case apierrors.IsNotFound(err):
		err = w.core.Post().Namespace(w.config.Namespace).Resource("configmaps").Body(wanted).Do(ctx).Error()
		if apierrors.IsAlreadyExists(err) {
			return nil // by another controller, from the same Secret
		}
	case err == nil && there.Data[authorityCert] != string(cert):
		there.Data = wanted.Data
		err = w.core.Put().Namespace(w.config.Namespace).Resource("configmaps").Name(authorityName).Body(&there).Do(ctx).Error()
	}
	if err != nil {
		return fmt.Errorf("ConfigMap %s/%s: %w", w.config.Namespace, authorityName, err)
	}
	return nil
}
