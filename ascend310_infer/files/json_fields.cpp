#include "files/json_fields.hpp"

#include <algorithm>
#include <limits>

#include "errors.hpp"
#include "messages.hpp"

namespace patchcore {

using nlohmann::json;

namespace {

bool IsListed(const std::string& name, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The kind of a value, as Python names it.
const char* KindOf(const json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "bool";
  if (value.is_number_integer()) return "int";
  if (value.is_number()) return "float";
  if (value.is_string()) return "str";
  return value.is_array() ? "list" : "dict";
}

std::string Entry(const std::string& name, std::size_t place) {
  return name + "[" + std::to_string(place) + "]";
}

}  // namespace

JsonFields::JsonFields(const json& object, std::string where, std::string path,
                       std::initializer_list<const char*> names,
                       std::initializer_list<const char*> optional)
    : object_(object), where_(std::move(where)), path_(std::move(path)) {
  if (!object.is_object()) {
    throw ArtifactError(where_ + ": " + (path_.empty() ? "top" : path_) +
                        ": expected an object, got " + KindOf(object) + "; copy the folder again");
  }
  for (const auto& [name, value] : object.items()) {
    if (!IsListed(name, names) && !IsListed(name, optional)) {
      Refuse(name, "unknown field; copy the folder again");
    }
  }
  for (const char* name : names) {
    if (!object.contains(name)) Refuse(name, "missing; copy the folder again");
  }
}

JsonFields JsonFields::Object(const char* name, std::initializer_list<const char*> names,
                              std::initializer_list<const char*> optional) const {
  return JsonFields(object_.at(name), where_, Dotted(name), names, optional);
}

std::vector<JsonFields> JsonFields::Objects(const char* name,
                                            std::initializer_list<const char*> names) const {
  const json& list = object_.at(name);
  ExpectList(list, name);
  std::vector<JsonFields> objects;
  for (const json& item : list) {
    objects.emplace_back(item, where_, Dotted(Entry(name, objects.size())), names);
  }
  return objects;
}

bool JsonFields::Has(const char* name) const { return object_.contains(name); }

void JsonFields::FreeObject(const char* name) const {
  const json& value = object_.at(name);
  Expect(value.is_object(), name, "an object", value);
}

std::string JsonFields::Text(const char* name) const { return TextOf(object_.at(name), name); }

double JsonFields::Number(const char* name) const { return NumberOf(object_.at(name), name); }

std::int64_t JsonFields::Integer(const char* name) const {
  return IntegerOf(object_.at(name), name);
}

std::vector<std::string> JsonFields::Texts(const char* name) const {
  return List<std::string>(object_.at(name), name, &JsonFields::TextOf);
}

std::vector<double> JsonFields::Numbers(const char* name) const {
  return NumbersOf(object_.at(name), name);
}

std::vector<std::int64_t> JsonFields::Integers(const char* name) const {
  return List<std::int64_t>(object_.at(name), name, &JsonFields::IntegerOf);
}

std::vector<std::vector<double>> JsonFields::NumberLists(const char* name) const {
  return List<std::vector<double>>(object_.at(name), name, &JsonFields::NumbersOf);
}

std::size_t JsonFields::Size(const char* name, std::int64_t low, std::int64_t high,
                             const std::string& expected) const {
  const std::int64_t value = Integer(name);
  Check(low <= value && value <= high, name, expected);
  return static_cast<std::size_t>(value);
}

void JsonFields::Check(bool holds, const std::string& name, const std::string& expected) const {
  if (!holds) Refuse(name, "expected " + expected + "; copy the folder again");
}

void JsonFields::Expect(bool holds, const std::string& name, const std::string& expected,
                        const json& got) const {
  if (!holds) {
    Refuse(name, "expected " + expected + ", got " + ShownValue(got) + "; copy the folder again");
  }
}

template <typename Item>
std::vector<Item> JsonFields::List(const json& list, const std::string& name,
                                   Item (JsonFields::*convert)(const json&, const std::string&)
                                       const) const {
  ExpectList(list, name);
  std::vector<Item> items;
  items.reserve(list.size());
  for (const json& item : list) {
    items.push_back((this->*convert)(item, Entry(name, items.size())));
  }
  return items;
}

void JsonFields::ExpectList(const json& value, const std::string& name) const {
  Check(value.is_array(), name, std::string("a list, got ") + KindOf(value));
}

std::string JsonFields::TextOf(const json& value, const std::string& name) const {
  Expect(value.is_string(), name, "str", value);
  return value.get<std::string>();
}

double JsonFields::NumberOf(const json& value, const std::string& name) const {
  Expect(value.is_number(), name, "a number", value);
  return value.get<double>();
}

std::int64_t JsonFields::IntegerOf(const json& value, const std::string& name) const {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  Expect(value.is_number_integer(), name, "int", value);
  if (value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{kMost}) {
    return kMost;
  }
  return value.get<std::int64_t>();
}

std::vector<double> JsonFields::NumbersOf(const json& value, const std::string& name) const {
  return List<double>(value, name, &JsonFields::NumberOf);
}

std::string JsonFields::Dotted(const std::string& name) const {
  return path_.empty() ? name : path_ + "." + name;
}

void JsonFields::Refuse(const std::string& name, const std::string& reason) const {
  throw ArtifactError(where_ + ": " + Printable(Dotted(name), 160) + ": " + reason);
}

std::string ShownValue(const json& value) {
  if (value.is_null() || value.is_object() || value.is_array()) return KindOf(value);
  return value.dump(-1, ' ', true).substr(0, 80);
}

}  // namespace patchcore
