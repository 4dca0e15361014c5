#include "cli/failure.hpp"

#include <exception>
#include <new>

#include "errors.hpp"
#include "files/names.hpp"
#include "messages.hpp"

namespace patchcore {

std::string FailureOf(const std::string& path) {
  try {
    throw;
  } catch (const Error& error) {
    const std::string reason = PrintableText(error.what());
    return reason.rfind(path, 0) == 0 ? reason : path + ": " + reason;
  } catch (const std::bad_alloc&) {
    return path + ": not enough memory for it; scale it down, or use a smaller --threads";
  } catch (const std::exception& error) {
    return path + ": cannot be scored (" + OneLine(error.what()) + ")";
  } catch (...) {
    return path + ": cannot be scored (an unknown failure)";
  }
}

}  // namespace patchcore
