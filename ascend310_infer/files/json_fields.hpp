// The fields of one JSON object, read by name; every refusal names the file and the field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace patchcore {

// Checks of one object; all throw ArtifactError. The object must outlive it.
class JsonFields {
 public:
  // The object must have these fields, may have the optional ones, and no others.
  //   where      path of the file, for messages
  //   path       dotted name of the object in the file, "" for the whole
  JsonFields(const nlohmann::json& object, std::string where, std::string path,
             std::initializer_list<const char*> names,
             std::initializer_list<const char*> optional = {});

  JsonFields Object(const char* name, std::initializer_list<const char*> names,
                    std::initializer_list<const char*> optional = {}) const;
  // The same for each entry of a list of objects.
  std::vector<JsonFields> Objects(const char* name, std::initializer_list<const char*> names) const;
  bool Has(const char* name) const;  // whether an optional field is there
  // Only that it is an object: no reader decides by what stands in it.
  void FreeObject(const char* name) const;

  std::string Text(const char* name) const;
  double Number(const char* name) const;
  std::int64_t Integer(const char* name) const;  // what does not fit becomes the largest
  std::vector<std::string> Texts(const char* name) const;
  std::vector<double> Numbers(const char* name) const;
  std::vector<std::int64_t> Integers(const char* name) const;
  std::vector<std::vector<double>> NumberLists(const char* name) const;

  // An integer in [low, high] as a size; `expected` says the range in words.
  std::size_t Size(const char* name, std::int64_t low, std::int64_t high,
                   const std::string& expected) const;

  // The choice whose text the field holds.
  template <typename Choice>
  Choice OneOf(const char* name,
               std::initializer_list<std::pair<const char*, Choice>> choices) const {
    const nlohmann::json& value = object_.at(name);
    std::string allowed;
    for (const auto& [text, choice] : choices) {
      if (value.is_string() && value.get_ref<const std::string&>() == text) return choice;
      allowed += (allowed.empty() ? "'" : ", '") + std::string(text) + "'";
    }
    Expect(false, name, "one of (" + allowed + ")", value);
    return {};
  }

  // Refuses a value that is out of its range.
  void Check(bool holds, const std::string& name, const std::string& expected) const;
  // Refuses a value of another kind, and shows it.
  void Expect(bool holds, const std::string& name, const std::string& expected,
              const nlohmann::json& got) const;

 private:
  template <typename Item>
  std::vector<Item> List(const nlohmann::json& list, const std::string& name,
                         Item (JsonFields::*convert)(const nlohmann::json&, const std::string&)
                             const) const;
  void ExpectList(const nlohmann::json& value, const std::string& name) const;
  std::string TextOf(const nlohmann::json& value, const std::string& name) const;
  double NumberOf(const nlohmann::json& value, const std::string& name) const;
  std::int64_t IntegerOf(const nlohmann::json& value, const std::string& name) const;
  std::vector<double> NumbersOf(const nlohmann::json& value, const std::string& name) const;
  std::string Dotted(const std::string& name) const;
  [[noreturn]] void Refuse(const std::string& name, const std::string& reason) const;

  const nlohmann::json& object_;
  std::string where_;
  std::string path_;
};

// A value for a message: numbers and texts as JSON, at most 80 bytes, others by their kind.
std::string ShownValue(const nlohmann::json& value);

}  // namespace patchcore
