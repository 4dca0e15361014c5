// How the test double of MindSpore behaves; tests set it before they make a backend.
//
// The double computes real numbers: it runs the features.onnx beside the .mindir file on ONNX
// Runtime, and for a file whose name begins with "index" it takes the rows out of that file and
// does the product and the selection itself. It stands for hardware that no test machine has, and
// shows how the backend calls the API and takes its failures; it says nothing about an NPU's
// rounding or speed.
#pragma once

namespace mindspore_double {

enum class Flavour {
  kLite,      // Build(path) works, Load from a path does not, batches are dynamic or fixed
  kOlderSdk,  // Build(path) fails, Load and Build(GraphCell) work, the batch is fixed at 1
};

// What index.mindir answers beside the truth.
enum class Lie {
  kNone,
  kHiddenWinner,  // drops the best row wherever half's rounding could have done so
  kReversed,      // the worst of the shortlist first
  kRowTooLarge,   // row M
  kNegativeRow,
  kSameRow,  // one row S times
  kNotANumber,
  kOtherScores,  // as from another bank
};

struct Behaviour {
  Flavour flavour = Flavour::kLite;
  int fixed_batch = 0;             // of a converted model; 0: dynamic
  bool half_outputs = false;       // answer in fp16, as an NPU may
  bool swapped_outputs = false;    // the last layer first, under other names
  bool float_input = false;        // the model wants float32 pixels
  bool throws_on_predict = false;  // an exception in place of a status
  bool fails_on_predict = false;
  bool wrong_input_shape = false;  // channels first
  bool wrong_output_shape = false;
  bool no_outputs = false;
  bool integer_scores = false;  // the shortlist's scores are int32, too
  Lie lie = Lie::kNone;
  int runs = 0;            // Predict was called; counted by the double
  int ascend_devices = 1;  // 0 to n - 1 exist; building for another throws, as the driver does
};

Behaviour& Current();

}  // namespace mindspore_double
