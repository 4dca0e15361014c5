// Rows as JSON and as lines of a table.
#include "cli/row.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/scratch.hpp"

using patchcore::CsvLine;
using patchcore::Row;

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
          "image,score,threshold,score_ratio,p_value,is_anomalous,peak_y,peak_x,error\r\n");
  REQUIRE(CsvLine(Named("a.png")) == "a.png,-1.5,2.0,-0.75,1e-05,False,3,4,\r\n");
  Row refused;
  refused.image = "b.png";
  refused.error = "b.png: no image, but \"text\"";
  REQUIRE(CsvLine(refused) == "b.png,,,,,,,,\"b.png: no image, but \"\"text\"\"\"\r\n");
}

TEST_CASE("names that spreadsheets would execute begin with an apostrophe, numbers do not") {
  const char first = GENERATE('=', '+', '-', '@');
  const std::string name = std::string(1, first) + "1.png";
  REQUIRE(CsvLine(Named(name)).rfind("'" + name + ",-1.5,", 0) == 0);
  REQUIRE(CsvLine(Named("a" + name)).rfind("a" + name + ",", 0) == 0);
}
