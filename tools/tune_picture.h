/* tune_picture.h - the predicted timeline of a plan, as a picture and as a trace. */
#ifndef TOOLS_TUNE_PICTURE_H
#define TOOLS_TUNE_PICTURE_H

#include "base/must.h"
#include "plan/plan.h"
#include "plan/profile.h"
#include "plan/regime.h"

struct tune_picture {
    const struct plan *plan;
    const struct profile *profile;
    const struct regime *regime;
    const char *picture; /* Paths; NULL: not wanted. */
    const char *trace;
};

/* Two layers of the steady state, and one of the sequential plan below. 0 or -errno. */
int tune_picture_draw(const struct tune_picture *picture) MUST_CHECK;

#endif /* TOOLS_TUNE_PICTURE_H */
