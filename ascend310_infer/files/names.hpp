// Names of files -> text that is safe to print, and names of files made from them; the twin of
// patchcore_runtime/files/names.py. artifacts/FORMAT.md, section Names, defines the shown form.
#pragma once

#include <string>
#include <string_view>

namespace patchcore {

// The form of a name in JSON, tables and messages. Different names have different forms: a
// backslash is doubled, a control character and a byte that is not UTF-8 become \xNN, and other
// characters that a terminal may obey \uNNNN. Ordinary names are unchanged.
std::string Shown(std::string_view name);

// A text as one line that is safe to print: as Shown, but backslashes stay.
std::string PrintableText(std::string_view text);

// A file's name with a suffix, shortened to the 255 bytes that file systems allow.
//   name       path below a folder, with slashes; only its last part is changed
std::string WithSuffix(const std::string& name, const std::string& suffix);

}  // namespace patchcore
