/* Certificates made for a test, with P-256 keys. */
#ifndef LLM_ROUTER_TESTS_CERTIFICATES_H
#define LLM_ROUTER_TESTS_CERTIFICATES_H

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

enum { DAY_S = 24 * 3600 };

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

static inline void add_extension(X509 *certificate, int kind, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, kind, value);

    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/* `issuer` NULL: an authority, which signs itself. `names` is what OpenSSL's
 * subjectAltName takes ("DNS:a,IP:127.0.0.1"), or NULL for none. Valid from
 * two days ago. */
static inline struct identity identity_make(const struct identity *issuer,
                                            const char *common,
                                            const char *names,
                                            long expires_in_s)
{
    static int serial = 1;
    struct identity made = {EVP_EC_gen("P-256"), X509_new()};
    X509_NAME *subject = X509_get_subject_name(made.certificate);

    X509_set_version(made.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), -2L * DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), expires_in_s);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               (const unsigned char *)common, -1, -1, 0);
    X509_set_issuer_name(made.certificate,
                         issuer ? X509_get_subject_name(issuer->certificate)
                                : subject);
    X509_set_pubkey(made.certificate, made.key);
    add_extension(made.certificate, NID_basic_constraints,
                  issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (names)
        add_extension(made.certificate, NID_subject_alt_name, names);
    X509_sign(made.certificate, issuer ? issuer->key : made.key, EVP_sha256());
    return made;
}

static inline void identity_free(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
}

#endif
