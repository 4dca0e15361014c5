// SHA256SUMS.sig: an ed25519 signature (RFC 8032) over the bytes of SHA256SUMS; the twin of
// patchcore_runtime/artifact/signature.py.
#pragma once

#include <filesystem>
#include <string>

namespace patchcore {

// Refuses sums that the owner of the key has not signed. Use these same bytes afterwards, and do
// not read the file again.
//   sums        the content of SHA256SUMS
//   sums_path   path of that file; the signature is beside it, with ".sig" appended
//   public_key  PEM file
// Throws SignatureError: no signature, a malformed one, one by another key or of other sums; or the
// key is no ed25519 public key.
void CheckSignature(const std::string& sums, const std::filesystem::path& sums_path,
                    const std::filesystem::path& public_key);

}  // namespace patchcore
