// Files that appear whole or not at all.
#include "files/whole.hpp"

#include <iterator>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace fs = std::filesystem;

namespace {

std::size_t EntriesOf(const fs::path& folder) {
  const fs::directory_iterator entries(folder);
  return static_cast<std::size_t>(std::distance(fs::begin(entries), fs::end(entries)));
}

}  // namespace

TEST_CASE("a file is written or replaced, and nothing remains beside it") {
  const Scratch scratch;
  const fs::path path = scratch.path() / "table.csv";
  patchcore::WriteWhole(path, "first");
  patchcore::WriteWhole(path, "second");
  REQUIRE(ReadFile(path) == "second");
  REQUIRE(EntriesOf(scratch.path()) == 1);
}

TEST_CASE("a check leaves the folder and an older file as they were") {
  const Scratch scratch;
  const fs::path path = scratch.path() / "table.csv";
  patchcore::CheckWritable(path);
  REQUIRE(EntriesOf(scratch.path()) == 0);
  WriteFile(path, "older");
  patchcore::CheckWritable(path);
  REQUIRE(ReadFile(path) == "older");
}

TEST_CASE("missing folders, folders and devices are refused") {
  const Scratch scratch;
  const fs::path path =
      GENERATE(fs::path("missing/table.csv"), fs::path("."), fs::path("/dev/null"));
  const auto check = [&] { patchcore::CheckWritable(scratch.path() / path); };
  const auto write = [&] { patchcore::WriteWhole(scratch.path() / path, "x"); };
  REQUIRE_FALSE(Refusal<patchcore::Error>(check).empty());
  REQUIRE_FALSE(Refusal<patchcore::Error>(write).empty());
  REQUIRE(fs::is_character_file("/dev/null"));
  REQUIRE(EntriesOf(scratch.path()) == 0);
}

TEST_CASE("a name as long as file systems allow is written") {
  const Scratch scratch;
  const fs::path path = scratch.path() / std::string(255, 'n');
  patchcore::WriteWhole(path, "x");
  REQUIRE(ReadFile(path) == "x");
}
