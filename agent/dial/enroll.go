package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	pb "github.com/vragent/vragent/controller/southbound"
)

// enrollTime bounds one enrollment: the controller asks the API server.
const enrollTime = 10 * time.Second

// Enroll has the controller at address sign a certificate request (PKCS#10, DER)
// for whom the token is; t trusts its authority and names the server.
func Enroll(ctx context.Context, address string, t *tls.Config, token string, csr []byte) (pem []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTime)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(t)))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	r, err := pb.NewEnrollmentClient(conn).Enroll(ctx, &pb.EnrollRequest{Token: token, Csr: csr})
	return r.GetCertificate(), plain(err)
}

// plain leaves of an error what a person can use: what the other side said.
func plain(err error) error {
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}
	return err
}
