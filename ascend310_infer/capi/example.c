/* Score image files: example ARTIFACT IMAGE...
 *
 *   cc example.c -I../include -L../lib -lpatchcore -Wl,-rpath,../lib -o example
 */
#include <stdio.h>

#include "patchcore.h"

static const char* word_of(const patchcore_verdict* verdict) {
  if (verdict->not_this_part) return "not this part";
  return verdict->is_anomalous ? "anomalous" : "good";
}

static int score(patchcore_detector* detector, const char* path) {
  patchcore_result* result = patchcore_score_file(detector, path);
  patchcore_verdict verdict;
  size_t height, width;
  if (result == NULL) {
    fprintf(stderr, "%s\n", patchcore_last_error());
    return 1;
  }
  patchcore_get_verdict(result, &verdict);
  patchcore_get_map(result, &height, &width);
  printf("%s: %s, score %.6f of %.6f, peak at (%lu, %lu), map %lu x %lu\n", path,
         word_of(&verdict), verdict.score, verdict.threshold,
         (unsigned long)verdict.peak_y, (unsigned long)verdict.peak_x, (unsigned long)height,
         (unsigned long)width);
  patchcore_free(result);
  return 0;
}

int main(int argc, char** argv) {
  patchcore_detector* detector;
  int i, failed = 0;
  if (argc < 3) {
    fprintf(stderr, "usage: example ARTIFACT IMAGE...\n");
    return 2;
  }
  detector = patchcore_open(argv[1], NULL);
  if (detector == NULL) {
    fprintf(stderr, "%s\n", patchcore_last_error());
    return 1;
  }
  for (i = 2; i < argc; ++i) failed |= score(detector, argv[i]);
  patchcore_close(detector);
  return failed;
}
