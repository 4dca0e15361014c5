#include "cli/row.hpp"

#include <nlohmann/json.hpp>
#include <string_view>

namespace patchcore {
namespace {

using nlohmann::json;

// One value as json.dumps of Python writes it.
template <typename T>
std::string Json(const T& value) {
  return json(value).dump(-1, ' ', true, json::error_handler_t::replace);
}

template <typename Values>
std::string JsonList(const Values& values) {
  std::string list;
  for (const auto& value : values) list += (list.empty() ? "[" : ", ") + Json(value);
  return list.empty() ? "[]" : list + "]";
}

std::string JsonOf(const AnomalyRegion& region) {
  std::string contour;
  for (const auto& corner : region.contour) {
    contour += (contour.empty() ? "" : ", ") + JsonList(corner);
  }
  return "{\"box\": " + JsonList(region.box) + ", \"area\": " + Json(region.area) +
         ", \"peak\": " + JsonList(region.peak) +
         ", \"peak_value\": " + Json(static_cast<double>(region.peak_value)) + ", \"contour\": [" +
         contour + "]}";
}

const char* Text(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "good";
    case Verdict::kAnomalous:
      return "anomalous";
    case Verdict::kNotThisPart:
      return "not_this_part";
  }
  return "";
}

std::string Joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : "; ") + text;
  return all;
}

// Names, reasons and errors are printable already.
std::string CsvText(std::string text) {
  if (std::string_view("=+-@\t\r").find(text.empty() ? ' ' : text.front()) !=
      std::string_view::npos) {
    text.insert(0, "'");
  }
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char letter : text) quoted += letter == '"' ? "\"\"" : std::string(1, letter);
  return quoted + "\"";
}

}  // namespace

std::string JsonLine(const Row& row) {
  const std::string begin = "{\"image\": " + Json(row.image);
  if (!row.error.empty()) return begin + ", \"error\": " + Json(row.error) + "}\n";
  const Result& result = row.result;
  std::string line =
      begin + ", \"score\": " + Json(result.score) + ", \"threshold\": " + Json(result.threshold) +
      ", \"score_ratio\": " + Json(result.score / result.threshold) +
      ", \"p_value\": " + Json(result.p_value) +
      ", \"is_anomalous\": " + Json(result.is_anomalous()) +
      ", \"verdict\": " + Json(Text(result.verdict)) +
      ", \"reasons\": " + JsonList(result.reasons) + ", \"peak\": " + JsonList(result.peak);
  if (!row.note.empty()) line += ", \"note\": " + Json(row.note);
  if (!row.map.empty()) line += ", \"map\": " + Json(row.map);
  if (row.regions) {
    std::string regions;
    for (const AnomalyRegion& region : *row.regions) {
      regions += (regions.empty() ? "" : ", ") + JsonOf(region);
    }
    line += ", \"regions\": [" + regions + "]";
  }
  return line + "}\n";
}

std::string CsvHeader() {
  return "image,score,threshold,score_ratio,p_value,is_anomalous,verdict,peak_y,peak_x,reasons,"
         "error\r\n";
}

std::string CsvLine(const Row& row) {
  const std::string image = CsvText(row.image);
  if (!row.error.empty()) return image + ",,,,,,,,,," + CsvText(row.error) + "\r\n";
  const Result& result = row.result;
  return image + "," + Json(result.score) + "," + Json(result.threshold) + "," +
         Json(result.score / result.threshold) + "," + Json(result.p_value) + "," +
         (result.is_anomalous() ? "True" : "False") + "," + Text(result.verdict) + "," +
         Json(result.peak[0]) + "," + Json(result.peak[1]) + "," + CsvText(Joined(result.reasons)) +
         ",\r\n";
}

}  // namespace patchcore
