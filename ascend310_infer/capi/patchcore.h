/* Score images with a PatchCore artifact, from C or any language that calls C.
 *
 *   patchcore_detector *detector = patchcore_open("artifacts/bottle", NULL);
 *   patchcore_result *result = patchcore_score_file(detector, "photo.png");
 *   patchcore_verdict verdict;
 *   patchcore_get_verdict(result, &verdict);
 *
 * capi/example.c and capi/example.py are whole programs.
 *
 * Errors: a function that fails returns NULL, and patchcore_last_error() says why in one line. No
 * C++ exception leaves the library, and it never ends the process.
 *
 * Threads: several threads may score with one detector at the same time. A result belongs to
 * whoever received it; several threads may read it. Close a detector after all calls on it have
 * returned. Results stay valid after that.
 *
 * Texts are UTF-8 or the bytes of the file system, and end with a zero byte. Everything that a
 * function takes may be freed as soon as it returns.
 */
#ifndef PATCHCORE_H
#define PATCHCORE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PATCHCORE_API __attribute__((visibility("default")))
#else
#define PATCHCORE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct patchcore_detector patchcore_detector;
typedef struct patchcore_result patchcore_result;

/* Set all members to zero, then `size`, then what you need. */
typedef struct patchcore_options {
  size_t size; /* sizeof(patchcore_options) */
  const char*
      public_key;   /* PEM file; refuse what this ed25519 key has not signed; NULL: unchecked */
  const char* roi;  /* mask image, white is inspected; NULL: the artifact's own region */
  double threshold; /* image threshold, above 0; 0: the artifact's */
  uint32_t threads; /* of one call; 0: the cores that this process may use */
} patchcore_options;

typedef struct patchcore_verdict {
  double score;     /* larger is stranger; never clamped */
  double threshold; /* of `score` */
  double p_value;   /* share of good images at least as strange, from held-out scores */
  double pixel_threshold;
  size_t peak_y, peak_x; /* the map's maximum, in pixels of the photograph as shown */
  int32_t is_anomalous;  /* 1 unless the image is good: score > threshold, or not_this_part */
  int32_t not_this_part; /* 1 if the image does not show what was learned, whatever its score */
} patchcore_verdict;

/* Bytes of one pixel: red, green, blue; blue, green, red (OpenCV); or one byte of grey. */
typedef enum patchcore_layout {
  PATCHCORE_RGB = 0,
  PATCHCORE_BGR = 1,
  PATCHCORE_GREY = 2
} patchcore_layout;

/* The version, for instance "0.1.0". */
PATCHCORE_API const char* patchcore_version(void);

/* Why the last call that failed in this thread failed: one line, valid until the next failure in
 * this thread; "" if none failed. */
PATCHCORE_API const char* patchcore_last_error(void);

/* Load an artifact: the folder that patchcore-build fit has written. Its checksums are compared.
 *   options    NULL: all of them zero */
PATCHCORE_API patchcore_detector* patchcore_open(const char* artifact,
                                                 const patchcore_options* options);

/* Free a detector; NULL does nothing. */
PATCHCORE_API void patchcore_close(patchcore_detector* detector);

/* Score a PNG or JPEG file, oriented as its EXIF block says. */
PATCHCORE_API patchcore_result* patchcore_score_file(patchcore_detector* detector,
                                                     const char* path);

/* Score the bytes of a PNG or JPEG file. */
PATCHCORE_API patchcore_result* patchcore_score_bytes(patchcore_detector* detector,
                                                      const void* bytes, size_t count);

/* Score decoded 8-bit pixels, as shown.
 *   pixels     the upper left pixel; rows from top to bottom
 *   stride     bytes from one row to the next, at least width times the bytes of a pixel
 *   layout     a patchcore_layout */
PATCHCORE_API patchcore_result* patchcore_score_pixels(patchcore_detector* detector,
                                                       const uint8_t* pixels, size_t height,
                                                       size_t width, size_t stride, int layout);

/* Score, threshold and verdict. Neither pointer may be NULL. */
PATCHCORE_API void patchcore_get_verdict(const patchcore_result* result,
                                         patchcore_verdict* verdict);

/* The anomaly map, row-major (height, width), in the geometry of the network's input and the unit
 * of `pixel_threshold`; valid until the result is freed. No pointer may be NULL. */
PATCHCORE_API const float* patchcore_get_map(const patchcore_result* result, size_t* height,
                                             size_t* width);

/* Free a result; NULL does nothing. */
PATCHCORE_API void patchcore_free(patchcore_result* result);

#ifdef __cplusplus
}
#endif

#endif
