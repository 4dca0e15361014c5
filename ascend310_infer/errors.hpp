// Every error this program raises on purpose, the twin of patchcore_runtime/errors.py.
//
//   Error
//   ├── ArtifactError    a file of the artifact is missing, altered or of another version
//   │   └── SignatureError   it is not signed by the key that was given, or that is no key
//   ├── ImageError       a picture cannot be read or does not fit the artifact
//   ├── ThresholdError   a threshold or false-alarm rate that the artifact cannot give
//   └── BackendError     the engine or the device cannot run what was asked for here
//
// Messages are one line: where, what was expected, what came, what to do.
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
