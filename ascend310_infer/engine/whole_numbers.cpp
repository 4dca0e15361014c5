#include "engine/whole_numbers.hpp"

#include <algorithm>
#include <array>

#include "engine/rearranged_shapes.hpp"

namespace patchcore {
namespace {

// They keep the numbers and their order.
constexpr std::array<std::string_view, 5> kKeeping = {"Cast", "Identity", "Reshape", "Squeeze",
                                                      "Unsqueeze"};

std::vector<std::int64_t> Rearranged(const Call& call) {
  std::vector<std::int64_t> made;
  if (call.kind == "Concat") {
    for (std::size_t input = 0; input < call.inputs.size(); ++input) {
      const auto& numbers = NumbersOf(call, input);
      made.insert(made.end(), numbers.begin(), numbers.end());
    }
    const auto count = static_cast<std::int64_t>(made.size());
    Expect(count <= kMostWhole, "at most " + std::to_string(kMostWhole) + " integers",
           std::to_string(count));
    return made;
  }
  const auto& numbers = NumbersOf(call, 0);
  const auto length = static_cast<std::int64_t>(numbers.size());
  if (call.kind == "Gather") {
    for (const std::int64_t place : NumbersOf(call, 1)) {
      made.push_back(numbers[static_cast<std::size_t>(place < 0 ? place + length : place)]);
    }
    return made;
  }
  const auto found = Slices(call);
  const SlicePlaces places = found.empty() ? SlicePlaces{0, 1, length} : found.at(0);
  for (std::int64_t i = 0; i < places.count; ++i) {
    made.push_back(numbers[static_cast<std::size_t>(places.first + i * places.step)]);
  }
  return made;
}

}  // namespace

WholeNumbers MadeNumbers(const Call& call) {
  if (call.kind == "Shape") return AskedSides(call);
  // Inputs behind the data are places or axes.
  const std::size_t count =
      call.kind == "Concat" ? call.inputs.size() : std::min<std::size_t>(1, call.inputs.size());
  const auto known = [](const WholeNumbers& numbers) { return numbers.has_value(); };
  const auto data = call.numbers.begin() + static_cast<std::ptrdiff_t>(count);
  const bool casts = call.kind == "Cast";
  const bool stays = !casts || IntOf(call, "to", kInt64) == kInt64;
  if (std::none_of(call.numbers.begin(), data, known)) {
    // Numbers that are not known cannot become a shape.
    Expect(!casts || !stays, "to of a type 1 or 10", std::to_string(kInt64));
    return {};
  }
  Expect(std::all_of(call.numbers.begin(), data, known), "inputs of one type", "several");
  if (std::find(kKeeping.begin(), kKeeping.end(), call.kind) != kKeeping.end()) {
    return stays ? call.numbers[0] : WholeNumbers();
  }
  const auto is_list = [](const Shape& shape) { return shape.size() == 1; };
  Expect(std::all_of(call.inputs.begin(), call.inputs.begin() + static_cast<std::ptrdiff_t>(count),
                     is_list),
         "a list", "another shape");
  return Rearranged(call);
}

}  // namespace patchcore
