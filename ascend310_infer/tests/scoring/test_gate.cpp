// The figures of the gate against numbers made by hand, and its words.
#include "scoring/gate.hpp"

#include <optional>
#include <vector>

#include "tests/support/catch.hpp"

using patchcore::Gate;
using patchcore::GateValues;
using patchcore::MeasureGate;
using patchcore::Strangeness;

TEST_CASE("the distance is the lower median, and rows are counted once") {
  const GateValues odd = MeasureGate({5, 1, 3}, {7, 7, 2}, {});
  CHECK(odd.distance == 3);
  CHECK(odd.rows == 2);
  const GateValues even = MeasureGate({8, 1, 3, 5}, {0, 1, 2, 3}, {});
  CHECK(even.distance == 3);  // not 4, and not 5
  CHECK(even.rows == 4);
  const GateValues two = MeasureGate({2, 1}, {9, 9}, {});
  CHECK(two.distance == 1);
  CHECK(two.rows == 1);
}

TEST_CASE("a distance of exactly 0 does not count, its row does") {
  const GateValues some = MeasureGate({0, 0, 0, 4, 2, 9}, {5, 5, 5, 1, 2, 3}, {});
  CHECK(some.distance == 4);
  CHECK(some.rows == 4);
  const GateValues none = MeasureGate({0, 0}, {1, 2}, {});
  CHECK(none.distance == 0);
  CHECK(none.rows == 2);
}

TEST_CASE("patches outside of the learned region do not count") {
  const GateValues inside = MeasureGate({9, 1, 9, 2, 9, 4}, {1, 2, 3, 2, 5, 6}, {0, 1, 0, 1, 0, 1});
  CHECK(inside.distance == 2);
  CHECK(inside.rows == 2);
}

TEST_CASE("an image is strange strictly beyond a limit, and without limits never") {
  const Gate gate{1.23456, 2.5, 30, 12};
  CHECK(Strangeness(std::nullopt, {1e9, 0}).empty());
  CHECK(Strangeness(gate, {2.5, 12}).empty());
  const auto few = Strangeness(gate, {2.5, 11});
  REQUIRE(few.size() == 1);
  CHECK(few[0] ==
        "most of what was learned is missing: 11 rows of the memory bank are nearest to a patch, "
        "in good images about 30, expected at least 12");
  const auto far = Strangeness(gate, {123456, 12});
  REQUIRE(far.size() == 1);
  CHECK(far[0] ==
        "nothing looks as learned: the median patch distance is 1.235e+05, in good images about "
        "1.235, expected at most 2.5");
  const auto both = Strangeness(gate, {3, 1});
  REQUIRE(both.size() == 2);
  CHECK(both[0].rfind("most of what", 0) == 0);
  CHECK(both[1].rfind("nothing looks", 0) == 0);
}
