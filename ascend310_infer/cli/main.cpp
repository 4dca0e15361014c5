// The command `patchcore_infer`: score images with an artifact, or run its self-test here.
//
// argv -> JSON lines or text on stdout, refusals on stderr, exit code 0 done, 1 refused, 2 usage.
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include "artifact/folder.hpp"
#include "cli/options.hpp"
#include "cli/score.hpp"
#include "errors.hpp"
#include "selftest.hpp"

namespace {

using patchcore::Complain;
using patchcore::Options;

int CheckHere(const Options& options) {
  const auto artifact =
      patchcore::Artifact::Open(options.artifact, false, options.public_key, options.is_private);
  artifact.Verify();
  patchcore::Detector detector = patchcore::LoadDetector(artifact, options);
  patchcore::NoteKind(detector, options);
  const auto steps = patchcore::RunSelfTest(artifact, detector);
  const std::string signer = options.public_key.empty() ? "" : ", signed by " + options.public_key;
  std::printf("checksums: %zu files as listed%s\n", artifact.Files().size(), signer.c_str());
  std::string broken;
  for (const patchcore::SelfTestStep& step : steps) {
    std::printf("%s: %s, differs by %.3g of %.3g\n", step.name.c_str(),
                step.Passed() ? "ok" : "FAILED", step.difference, step.tolerance);
    if (broken.empty() && !step.Passed()) broken = step.name;
  }
  std::fflush(stdout);
  if (broken.empty()) return 0;
  Complain(options.artifact + ": the self-test breaks at `" + broken +
           "` on this machine; do not trust its scores here");
  return 1;
}

int Run(const std::vector<std::string>& arguments) {
  const Options options = patchcore::ParseOptions(arguments);
  if (!options.answer.empty()) {
    std::cout << options.answer;
    return 0;
  }
  return options.selftest ? CheckHere(options) : patchcore::ScoreImages(options);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const patchcore::UsageError& error) {
    Complain(std::string("error: ") + error.what() + "; see patchcore_infer --help");
    return 2;
  } catch (const patchcore::Error& error) {
    Complain(error.what());
  } catch (const std::bad_alloc&) {
    Complain("expected more memory than there is; close other programs");
  } catch (const std::system_error& error) {
    Complain(std::string("the system refused (") + error.what() + "); try a smaller --threads");
  } catch (const std::exception& error) {
    Complain(error.what());
  } catch (...) {
    Complain("an unknown failure ended the program; please report it");
  }
  return 1;
}
