package clients_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startTLS starts a proxy that speaks TLS, for this test alone, and returns the
// file of the certificate that clients must trust.
func startTLS(t *testing.T, flags ...string) (p *proxy, certificate string) {
	t.Helper()
	certificate, key := makeCertificate(t)
	return startOwn(t, "https", append(flags, "--tls-cert="+certificate, "--tls-key="+key)...), certificate
}

// startOwn starts a proxy for this test alone.
func startOwn(t *testing.T, scheme string, flags ...string) *proxy {
	t.Helper()
	p, err := startProxy(scheme, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// makeCertificate makes a certificate of 127.0.0.1 that signs itself.
func makeCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "tureen's tests"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	return writePEM(t, folder, "CERTIFICATE", der), writePEM(t, folder, "PRIVATE KEY", pkcs8)
}

func writePEM(t *testing.T, folder, kind string, der []byte) (path string) {
	t.Helper()
	path = filepath.Join(folder, strings.ToLower(strings.ReplaceAll(kind, " ", "-"))+".pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCurlOverTLS publishes over HTTP/2 and watches over both versions.
func TestCurlOverTLS(t *testing.T) {
	ctx := begin(t)
	need(t, "curl")
	p, certificate := startTLS(t)
	clip, session := open(t, shortClip), newSession(t, p)
	trust := []string{"--cacert", certificate}

	// Held until the stream starts, both viewers get all of it.
	versions := map[string]string{"--http2": "2/200/", "--http1.1": "1.1/200/"}
	curls, bodies := map[string]*program{}, map[string]*recording{}
	for flag := range versions {
		flags := args(trust, []string{flag, "-H", "Prefer: wait=30"})
		curls[flag], bodies[flag] = curlWatches(ctx, t, p.url(session), flags...)
		asks(ctx, t, curls[flag])
	}
	publisher := run(ctx, t, "curl",
		args(trust, words("--http2 -T"), []string{file(t, clip)}, curlPublishes(p.url(session))))
	publisher.succeeds(t)
	if version, _ := answerOf(t, publisher); version != "HTTP/2 200" {
		t.Errorf("the publisher was answered %q, want HTTP/2 200", version)
	}
	sent := published(t, clip.Data)
	for flag, want := range versions {
		t.Run("viewer "+flag, func(t *testing.T) {
			curl := curls[flag]
			curl.succeeds(t)
			got := bodies[flag].wholeWithin(t, fileEndTime)
			checkWhole(t, sent, got)
			checkSummary(t, publisher.stdout.String(), session, len(clip.Data), sent, got)
			if !strings.HasSuffix(strings.TrimSpace(curl.stderr.String()), want) {
				t.Errorf("curl doesn't report %s", want)
			}
		})
	}
}
