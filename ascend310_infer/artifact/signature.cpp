#include "artifact/signature.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <memory>

#include "errors.hpp"
#include "files/regular.hpp"

namespace patchcore {
namespace {

namespace fs = std::filesystem;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Digest = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

constexpr std::size_t kSignatureBytes = 64;
constexpr std::size_t kMaxKeyBytes = std::size_t{1} << 16;  // a PEM of such a key has about 120

std::string ReadFile(const fs::path& path, std::size_t limit, Links links,
                     const std::string& advice) {
  try {
    return ReadRegular(path, limit, links);
  } catch (const FileError& error) {
    throw SignatureError(path.string() + ": " + error.what() + "; " + advice);
  }
}

Key ReadPublicKey(const fs::path& path) {
  const std::string text = ReadFile(path, kMaxKeyBytes, Links::kAll, "pass a key in PEM");
  const Memory memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
  Key key(memory ? PEM_read_bio_PUBKEY(memory.get(), nullptr, nullptr, nullptr) : nullptr,
          &EVP_PKEY_free);
  ERR_clear_error();
  if (!key || EVP_PKEY_base_id(key.get()) != EVP_PKEY_ED25519) {
    throw SignatureError(path.string() + ": expected an ed25519 public key in PEM, got " +
                         (key ? "another kind of key" : "another file"));
  }
  return key;
}

bool IsSignedBy(EVP_PKEY* key, const std::string& signature, const std::string& content) {
  const auto* of = reinterpret_cast<const unsigned char*>(content.data());
  const auto* by = reinterpret_cast<const unsigned char*>(signature.data());
  const Digest context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  const bool good = context &&
                    EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), by, signature.size(), of, content.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace

void CheckSignature(const std::string& sums, const fs::path& sums_path,
                    const fs::path& public_key) {
  const Key key = ReadPublicKey(public_key);
  const fs::path path = sums_path.string() + ".sig";
  const std::string signature = ReadFile(path, kSignatureBytes, Links::kOwnFolder,
                                         "the artifact is not signed, or was copied in part");
  if (signature.size() != kSignatureBytes) {
    throw SignatureError(path.string() + ": expected 64 bytes of an ed25519 signature, got " +
                         std::to_string(signature.size()) + "; copy the folder again");
  }
  if (!IsSignedBy(key.get(), signature, sums)) {
    throw SignatureError(
        path.string() + ": expected a signature of " + sums_path.filename().string() + " by " +
        public_key.string() +
        ", got another; the artifact was altered or signed by somebody else: " + "do not use it");
  }
}

}  // namespace patchcore
