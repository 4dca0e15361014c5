// Every error that this program raises on purpose; the twin of patchcore_runtime/errors.py.
//
//   Error
//   ├── ArtifactError    a file of the artifact is missing, altered or of another version
//   │   └── SignatureError   the given key did not sign it, or the key is invalid
//   ├── ImageError       an image cannot be read or does not fit the artifact
//   ├── ThresholdError   a threshold or false-alarm rate that the artifact cannot give
//   └── BackendError     the engine or the device cannot run what was requested
//
// A message is one line: where, what was expected, what was found, what to do.
#pragma once

#include <stdexcept>

namespace patchcore {

// Root of all refusals; main() turns it into exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ArtifactError : public Error {
 public:
  using Error::Error;
};

class SignatureError : public ArtifactError {
 public:
  using ArtifactError::ArtifactError;
};

class ImageError : public Error {
 public:
  using Error::Error;
};

// A threshold or false-alarm rate that the artifact cannot give.
class ThresholdError : public Error {
 public:
  using Error::Error;
};

class BackendError : public Error {
 public:
  using Error::Error;
};

}  // namespace patchcore
