// Rows as JSON and as lines of a table.
#include "cli/row.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

using patchcore::CsvLine;
using patchcore::JsonLine;
using patchcore::Row;
using patchcore::Verdict;

namespace {

Row Named(const std::string& image) {
  Row row;
  row.image = image;
  row.result.score = -1.5;
  row.result.threshold = 2;
  row.result.p_value = 1e-5;
  row.result.peak = {3, 4};
  return row;
}

}  // namespace

TEST_CASE("a row of the table has the columns of its header") {
  REQUIRE(patchcore::CsvHeader() ==
          "image,score,threshold,score_ratio,p_value,is_anomalous,verdict,peak_y,peak_x,reasons,"
          "error\r\n");
  REQUIRE(CsvLine(Named("a.png")) == "a.png,-1.5,2.0,-0.75,1e-05,False,good,3,4,,\r\n");
  Row refused;
  refused.image = "b.png";
  refused.error = "b.png: no image, but \"text\"";
  REQUIRE(CsvLine(refused) == "b.png,,,,,,,,,,\"b.png: no image, but \"\"text\"\"\"\r\n");
}

TEST_CASE("the verdict and its reasons are in the table and in JSON") {
  Row row = Named("a.png");
  row.result.verdict = Verdict::kAnomalous;
  row.result.reasons = {"score 3"};
  CHECK(CsvLine(row) == "a.png,-1.5,2.0,-0.75,1e-05,True,anomalous,3,4,score 3,\r\n");
  row.result.verdict = Verdict::kNotThisPart;
  row.result.reasons = {"most, in \"all\"", "score 3"};
  CHECK(CsvLine(row) ==
        "a.png,-1.5,2.0,-0.75,1e-05,True,not_this_part,3,4,\"most, in \"\"all\"\"; score 3\",\r\n");
  CHECK(JsonLine(row) ==
        "{\"image\": \"a.png\", \"score\": -1.5, \"threshold\": 2.0, \"score_ratio\": -0.75, "
        "\"p_value\": 1e-05, \"is_anomalous\": true, \"verdict\": \"not_this_part\", "
        "\"reasons\": [\"most, in \\\"all\\\"\", \"score 3\"], \"peak\": [3, 4]}\n");
  CHECK(JsonLine(Named("a.png"))
            .find("\"is_anomalous\": false, \"verdict\": \"good\", "
                  "\"reasons\": [], \"peak\": [3, 4]}\n") != std::string::npos);
}

TEST_CASE("names that spreadsheets would execute begin with an apostrophe, numbers do not") {
  const char first = GENERATE('=', '+', '-', '@');
  const std::string name = std::string(1, first) + "1.png";
  REQUIRE(CsvLine(Named(name)).rfind("'" + name + ",-1.5,", 0) == 0);
  REQUIRE(CsvLine(Named("a" + name)).rfind("a" + name + ",", 0) == 0);
}
