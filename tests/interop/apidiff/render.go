package main

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var scrubs = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid>"},
	{regexp.MustCompile(`\b[0-9]{25,}\b`), "<serial>"},
	{regexp.MustCompile(`\b[0-9a-f]{40}\b`), "<keyid>"},
}

func scrubText(s string) string {
	for _, r := range scrubs {
		s = r.re.ReplaceAllString(s, r.with)
	}
	return s
}

// render writes a message with everything random or tied to the clock taken out.
func render(m proto.Message) string {
	var b strings.Builder
	renderMessage(&b, m.ProtoReflect())
	return b.String()
}

func renderMessage(b *strings.Builder, m protoreflect.Message) {
	b.WriteString(string(m.Descriptor().Name()) + "{")
	fields := m.Descriptor().Fields()
	first := true
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		if !first {
			b.WriteString(" ")
		}
		first = false
		b.WriteString(string(f.Name()) + ":")
		if f.IsList() {
			renderList(b, f, m.Get(f).List())
		} else {
			renderValue(b, f, m.Get(f))
		}
	}
	b.WriteString("}")
}

// Lists whose order says nothing.
var unordered = map[protoreflect.Name]bool{"selectors": true, "federates_with": true}

func renderList(b *strings.Builder, f protoreflect.FieldDescriptor, l protoreflect.List) {
	items := make([]string, l.Len())
	for i := range items {
		var item strings.Builder
		renderValue(&item, f, l.Get(i))
		items[i] = item.String()
	}
	if unordered[f.Name()] {
		sort.Strings(items)
	}
	b.WriteString("[" + strings.Join(items, ", ") + "]")
}

func renderValue(b *strings.Builder, f protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch f.Kind() {
	case protoreflect.MessageKind:
		renderMessage(b, v.Message())
	case protoreflect.BytesKind:
		b.WriteString(renderBytes(v.Bytes()))
	case protoreflect.StringKind:
		b.WriteString(renderString(f, v.String()))
	case protoreflect.Int64Kind:
		b.WriteString(renderNumber(v.Int()))
	default:
		fmt.Fprintf(b, "%v", v.Interface())
	}
}

// Times near now are shown as a distance in whole minutes.
func renderNumber(n int64) string {
	away := time.Until(time.Unix(n, 0))
	if away.Abs() < 72*time.Hour {
		return fmt.Sprintf("<now%+dm>", int64(away.Round(time.Minute)/time.Minute))
	}
	return fmt.Sprint(n)
}

func renderString(f protoreflect.FieldDescriptor, s string) string {
	if f.Name() == "token" && strings.Count(s, ".") == 2 {
		return renderToken(s)
	}
	if f.Name() == "key_id" && !strings.HasPrefix(s, "kid-") {
		return "<kid>"
	}
	if f.Name() == "x509svid_serial_number" && s != "" {
		return "<serial>"
	}
	return fmt.Sprintf("%q", scrubText(s))
}

func renderToken(s string) string {
	var out []string
	for _, part := range strings.Split(s, ".")[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		var m map[string]any
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			return "<bad token>"
		}
		for k, v := range m {
			switch n := v.(type) {
			case float64:
				m[k] = renderNumber(int64(n))
			}
			if k == "kid" || k == "jti" {
				m[k] = "<" + k + ">"
			}
		}
		text, _ = json.Marshal(m)
		out = append(out, string(text))
	}
	return strings.Join(out, ".")
}

func renderBytes(raw []byte) string {
	if cert, err := x509.ParseCertificate(raw); err == nil {
		return renderCert(cert)
	}
	if key, err := x509.ParsePKIXPublicKey(raw); err == nil {
		return fmt.Sprintf("<%T>", key)
	}
	return fmt.Sprintf("%q", raw)
}

func renderCert(c *x509.Certificate) string {
	subject := regexp.MustCompile(`SERIALNUMBER=[0-9]+`).ReplaceAllString(c.Subject.String(), "SERIALNUMBER=<n>")
	issuer := regexp.MustCompile(`SERIALNUMBER=[0-9]+`).ReplaceAllString(c.Issuer.String(), "SERIALNUMBER=<n>")
	var exts []string
	for _, e := range c.Extensions {
		exts = append(exts, fmt.Sprintf("%s/%v", e.Id, e.Critical))
	}
	var uris []string
	for _, u := range c.URIs {
		uris = append(uris, scrubText(u.String()))
	}
	valid := c.NotAfter.Sub(c.NotBefore)
	return fmt.Sprintf("<cert %s by %s uri %v dns %v ca %v/%d usage %x ext %v for %s alg %s key %T serial bits<=%v exts %v>",
		subject, issuer, uris, c.DNSNames, c.IsCA, c.MaxPathLen, int(c.KeyUsage), c.ExtKeyUsage, valid.Round(10*time.Minute),
		c.SignatureAlgorithm, c.PublicKey, c.SerialNumber.BitLen() <= 160, exts)
}
