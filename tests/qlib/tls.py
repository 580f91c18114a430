"""A certificate for 127.0.0.1, and the key to it, which guards nothing."""

import ssl
from pathlib import Path

PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgohpZritHqT9WONki
Ww/nY3RHqym/3ifuzNaEXgXlroShRANCAAT5c1t/Otn1ZuJfFDOBZRQ+/rkfFwEa
/iihqBg4G8QIcylP4sK9Du3njZQkQwn7hDTUeeEmZ8oAAhAdSCKz7AZh
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBgzCCASqgAwIBAgIBATAKBggqhkjOPQQDAjAgMR4wHAYDVQQDDBVhIHNlcnZl
ciBvZiB0aGUgdGVzdHMwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBa
MCAxHjAcBgNVBAMMFWEgc2VydmVyIG9mIHRoZSB0ZXN0czBZMBMGByqGSM49AgEG
CCqGSM49AwEHA0IABPlzW3862fVm4l8UM4FlFD7+uR8XARr+KKGoGDgbxAhzKU/i
wr0O7eeNlCRDCfuENNR54SZnygACEB1IIrPsBmGjUzBRMA8GA1UdEQQIMAaHBH8A
AAEwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMCAoQwHQYDVR0OBBYEFLZ1
z0E57uk7oz+5EvIAj+VB5OAQMAoGCCqGSM49BAMCA0cAMEQCIE9Sfnu2vq63NtVT
t+frYHGTCF0bglVsnA4L4wk0je0zAiAqC5qLXmNDgybPRHpnNvUUJRNOiUd+Wld0
2Sj02UoMvQ==
-----END CERTIFICATE-----
"""


def serving_tls(directory: Path) -> tuple[ssl.SSLContext, str]:
    """Return what a server needs to answer by TLS, and the file by which a client may trust it."""
    file = directory / "server.pem"
    file.write_text(PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, str(file)
