// Maps on stdin -> the regions of each as one JSON line, for the tests that compare them.
//
// Each map is a line "HEIGHT WIDTH THRESHOLD" and its values, float32 in this machine's order.
#include <iostream>
#include <string>

#include "cli/row.hpp"
#include "explain/regions.hpp"

int main() {
  std::size_t height = 0, width = 0;
  double threshold = 0;
  while (std::cin >> height >> width >> threshold) {
    std::cin.get();
    std::vector<float> map(height * width);
    std::cin.read(reinterpret_cast<char*>(map.data()),
                  static_cast<std::streamsize>(map.size() * sizeof(float)));
    patchcore::Row row;
    row.result.threshold = 1;
    row.regions = patchcore::FindRegions(map, height, width, threshold);
    std::cout << patchcore::JsonLine(row);
  }
  return 0;
}
