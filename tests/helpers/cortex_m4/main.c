/* Scores the epochs in signals.bin of the host, by semihosting, into probabilities.bin. */
#include <stdio.h>

#include "model.h"

static float signals[MODEL_SIGNALS * MODEL_SAMPLES], workspace[MODEL_WORKSPACE];

int main(void) {
  FILE *const in = fopen("signals.bin", "rb"), *const out = fopen("probabilities.bin", "wb");
  float probabilities[MODEL_STAGES];
  if (!in || !out) return 1;
  while (fread(signals, sizeof signals, 1, in) == 1) {
    model_score(signals, workspace, probabilities);
    fwrite(probabilities, sizeof probabilities, 1, out);
  }
  return fclose(in) || fclose(out);
}
