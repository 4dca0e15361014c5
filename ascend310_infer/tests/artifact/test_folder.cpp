// Laws of artifacts: the golden one opens, and every damage is refused by file and field.
#include "artifact/folder.hpp"

#include <cstring>
#include <nlohmann/json.hpp>

#include "errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/files.hpp"
#include "tests/support/scratch.hpp"

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using patchcore::Artifact;
using patchcore::ArtifactError;

// The golden artifact, copied to be damaged.
class OwnArtifact {
 public:
  OwnArtifact() { fs::copy(PATCHCORE_TINY, folder_.path(), fs::copy_options::recursive); }
  fs::path Path(std::string_view name) const { return folder_.path() / name; }
  const fs::path& folder() const { return folder_.path(); }

 private:
  Scratch folder_;
};

template <typename Action>
std::string Refusal(Action action) {
  try {
    action();
  } catch (const ArtifactError& error) {
    const std::string message = error.what();
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.size() < 600);
    return message;
  }
  return "";
}

TEST_CASE("The golden artifact opens, and its files are the sums' files") {
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  artifact.Verify();
  CHECK(artifact.manifest().preprocess.height == 64);
  CHECK(artifact.manifest().scoring.image_score == patchcore::ImageScore::kMax);
  CHECK(artifact.manifest().selftest.defect_box[2] == 36);
  CHECK(artifact.manifest().training.images.size() == 12);
}

TEST_CASE("The bank keeps its own norms, origins and neighbours") {
  const Artifact artifact = Artifact::Open(PATCHCORE_TINY);
  const patchcore::MemoryBank& bank = artifact.bank();
  REQUIRE(bank.rows == 38);
  for (std::size_t row = 0; row < bank.rows; ++row) {
    double norm = 0;
    for (const patchcore::MemoryBank::Part& layer : bank.layers) {
      for (std::size_t c = 0; c < layer.channels; ++c) norm += std::pow(layer.Row(row)[c], 2);
    }
    CHECK(bank.norms[row] == Approx(norm).epsilon(1e-5));
    CHECK(bank.neighbours[row * bank.neighbour_count] == static_cast<std::int32_t>(row));
    const std::int32_t* origin = bank.origins + 3 * row;
    CHECK((origin[0] >= 0 && origin[0] < 12 && origin[1] >= 0 && origin[1] < 8 && origin[2] >= 0 &&
           origin[2] < 8));
  }
}

TEST_CASE("A bank outlives the artifact it was read from") {
  patchcore::MemoryBank bank;
  { bank = Artifact::Open(PATCHCORE_TINY).bank(); }
  CHECK(bank.neighbours[0] == 0);
}

TEST_CASE("An altered, missing or unlisted file is refused by name") {
  for (const char* name : {"manifest.json", "features.onnx", "index.onnx", "memory_bank.bin"}) {
    CAPTURE(name);
    {
      const OwnArtifact own;
      std::string content = ReadFile(own.Path(name));
      content[content.size() - 2] = static_cast<char>(content[content.size() - 2] ^ 32);
      WriteFile(own.Path(name), content);
      CHECK(Mentions(Refusal([&] { Artifact::Open(own.folder()); }), name));
    }
    {
      const OwnArtifact own;
      fs::remove(own.Path(name));
      const std::string message = Refusal([&] { Artifact::Open(own.folder()); });
      CHECK(Mentions(message, std::string(name) + ": No such file or directory"));
    }
    {
      const OwnArtifact own;
      std::string sums = ReadFile(own.Path("SHA256SUMS"));
      const std::size_t end = sums.find(std::string("  ") + name) + 2 + std::strlen(name) + 1;
      sums.erase(end - std::strlen(name) - 67, std::strlen(name) + 67);
      WriteFile(own.Path("SHA256SUMS"), sums);
      const std::string message = Refusal([&] { Artifact::Open(own.folder()); });
      CHECK(Mentions(message, std::string(name) + " is not listed"));
    }
  }
}

TEST_CASE("Sums in another form are refused by line") {
  const OwnArtifact own;
  WriteFile(own.Path("SHA256SUMS"), ReadFile(own.Path("SHA256SUMS")) + "short  name\n");
  CHECK(Mentions(Refusal([&] { Artifact::Open(own.folder()); }), "line 10: expected `sha256"));
}

TEST_CASE("Without verification an altered sum does not matter") {
  const OwnArtifact own;
  WriteFile(own.Path("SHA256SUMS"), "");
  CHECK_NOTHROW(Artifact::Open(own.folder(), false));
  CHECK(Mentions(Refusal([&] { Artifact::Open(own.folder()); }), "is not listed"));
}

TEST_CASE("Files of two artifacts do not go together") {
  const OwnArtifact own;
  json manifest = json::parse(ReadFile(own.Path("manifest.json")));
  manifest["memory_bank"]["rows"] = 37;
  WriteFile(own.Path("manifest.json"), manifest.dump());
  const std::string message = Refusal([&] { Artifact::Open(own.folder(), false); });
  CHECK(Mentions(message,
                 "(M, K, channels, precision): manifest.json says (37, 9, (8, 12), 'float32'), "
                 "the file has (38, 9, (8, 12), 'float32')"));
}

TEST_CASE("A folder that is none is refused") {
  const Scratch folder;
  CHECK(Mentions(Refusal([&] { Artifact::Open(folder.path() / "absent"); }), "no such folder"));
  CHECK(Mentions(Refusal([&] { Artifact::Open(folder.path()); }), "manifest.json: No such file"));
  fs::create_directory(folder.path() / "manifest.json");
  CHECK(Mentions(Refusal([&] { Artifact::Open(folder.path()); }), "Is a directory"));
}

TEST_CASE("The digest is SHA-256") {
  const Scratch folder;
  WriteFile(folder.path() / "abc", "abc");  // FIPS 180-4's example
  CHECK(patchcore::FileDigest(folder.path() / "abc") ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  WriteFile(folder.path() / "empty", "");
  CHECK(patchcore::FileDigest(folder.path() / "empty") ==
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
