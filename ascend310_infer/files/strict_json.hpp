// JSON text -> document, refusing what JSON readers disagree about.
//
// Repeated names, NaN and Infinity, numbers beyond float64, byte-order marks and nesting deeper
// than any manifest is are refused; nlohmann-json alone would take some of them.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace patchcore {

// Why a text is refused; one line, at most about 200 characters.
class JsonError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws JsonError.
nlohmann::json ParseStrictJson(std::string_view text);

}  // namespace patchcore
