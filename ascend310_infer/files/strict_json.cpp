#include "files/strict_json.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "messages.hpp"

namespace patchcore {
namespace {

using nlohmann::json;

constexpr std::size_t kMostValues = std::size_t{1} << 20;  // in strings, too
constexpr std::size_t kMaxDepth = 200;
constexpr int kNumberOverflow = 406;  // nlohmann-json's id of this error
constexpr std::size_t kMaxReason = 160;

// Builds the document from the parser's events, and knows where in it the parser stands.
class Builder : public nlohmann::json_sax<json> {
 public:
  json& root() { return root_; }
  const std::string& error() const { return error_; }

  bool null() override { return Add(json(nullptr)); }
  bool boolean(bool value) override { return Add(json(value)); }
  bool number_integer(number_integer_t value) override { return Add(json(value)); }
  bool number_unsigned(number_unsigned_t value) override { return Add(json(value)); }
  bool number_float(number_float_t value, const string_t&) override { return Add(json(value)); }
  bool string(string_t& value) override { return Add(json(std::move(value))); }
  bool binary(binary_t&) override { return Refuse("binary values"); }
  bool start_object(std::size_t) override { return Open(json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(json::array()); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    open_.back().second = name;
    return !open_.back().first->contains(name) || Refuse("given twice");
  }

  bool parse_error(std::size_t, const std::string& token,
                   const nlohmann::detail::exception& error) override {
    if (error.id == kNumberOverflow) {
      return Refuse(Printable(token, 40) + " is larger than float64 can be");
    }
    const std::string_view reason = error.what();  // after `[json.exception.parse_error.101] `
    return Refuse(Printable(reason.substr(reason.find("] ") + 2), kMaxReason));
  }

 private:
  bool Add(json value) { return Place(std::move(value)) != nullptr; }

  bool Open(json value) {
    if (open_.size() >= kMaxDepth) {
      return Refuse("nested too deeply");
    }
    open_.emplace_back(Place(std::move(value)), std::string());
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  // Puts a value where the parser stands; containers own their values at stable addresses as long
  // as nothing is added to the same array, and then only the newest one is open.
  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    auto& [parent, name] = open_.back();
    if (parent->is_array()) {
      parent->push_back(std::move(value));
      return &parent->back();
    }
    json& place = (*parent)[name];
    place = std::move(value);
    return &place;
  }

  bool Refuse(const std::string& reason) {
    std::string path;
    for (const auto& [node, name] : open_) {
      if (path.size() < kMaxReason && !name.empty()) {
        path += (path.empty() ? "" : ".") + name;
      }
    }
    error_ = Printable(path, kMaxReason) + (path.empty() ? "" : ": ") + reason;
    return false;
  }

  json root_;
  std::vector<std::pair<json*, std::string>> open_;  // containers, and the name last read in each
  std::string error_;
};

}  // namespace

json ParseStrictJson(std::string_view text) {
  if (text.substr(0, 3) == "\xEF\xBB\xBF") {
    throw JsonError("begins with a byte-order mark");
  }
  const auto separates = [](char mark) { return mark == '[' || mark == '{' || mark == ','; };
  const auto values = std::count_if(text.begin(), text.end(), separates);
  if (static_cast<std::size_t>(values) > kMostValues) {
    throw JsonError("more than " + std::to_string(kMostValues) + " values");
  }
  Builder builder;
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    throw JsonError(builder.error());
  }
  return std::move(builder.root());
}

}  // namespace patchcore
