// From gradients to better parameters. Flat buffers are of 32-bit floats.

KERNEL void accumulate(float* sums, const float* x, u64 count) {
    u64 i = place();
    if (i < count) sums[i] += x[i];
}
KERNEL void scale_buffer(float* x, u64 count, float factor) {
    u64 i = place();
    if (i < count) x[i] *= factor;
}

// Sums of squares of 4096 values a block, in double precision from there on.
KERNEL void square_sums(const float* x, double* partial, u64 count) {
    __shared__ float room[32];
    u64 start = (u64)blockIdx.x * 4096;
    float sum = 0.f;
    for (int i = threadIdx.x; i < 4096; i += blockDim.x)
        if (start + i < count) sum += x[start + i] * x[start + i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
// out[0] = √Σ partial; one block of 256 threads.
KERNEL void norm_of_sums(const double* partial, float* out, u64 count) {
    __shared__ double room[256];
    double sum = 0.;
    for (u64 i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    room[threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.x) return;
    for (int t = 1; t < blockDim.x; t++) sum += room[t];
    out[0] = (float)sqrt(sum);
}

DEVICE bool finite(float x) { return fabsf(x) <= 3.402823466e38f; }

KERNEL void clip_norm(float* x, const float* norm, u64 count, float limit) {
    u64 i = place();
    float factor = limit / (norm[0] + 1e-6f);
    if (i < count && finite(norm[0]) && factor < 1.f) x[i] *= factor;
}
KERNEL void clip_value(float* x, const float* norm, u64 count, float limit) {
    u64 i = place();
    if (i < count && finite(norm[0])) x[i] = fminf(fmaxf(x[i], -limit), limit);
}

struct Unit {
    u64 start;
    u32 length, unused;
};
// A block a unit.
KERNEL void clip_adaptive(float* x, const float* norm, const float* parameters, const Unit* units, float share) {
    __shared__ float room[32];
    Unit unit = units[blockIdx.x];
    float own = 0.f, of_parameters = 0.f;
    for (u32 i = threadIdx.x; i < unit.length; i += blockDim.x) {
        own += x[unit.start + i] * x[unit.start + i];
        of_parameters += parameters[unit.start + i] * parameters[unit.start + i];
    }
    own = sqrtf(block_sum(own, room));
    of_parameters = sqrtf(block_sum(of_parameters, room));
    float factor = fmaxf(of_parameters, 1e-3f) * share / fmaxf(own, 1e-6f);
    if (factor < 1.f && finite(norm[0]))
        for (u32 i = threadIdx.x; i < unit.length; i += blockDim.x) x[unit.start + i] *= factor;
}

#define P(T) (const T* x, u32* flag, u64 count)
template <class T> DEVICE void check_finite(const T* x, u32* flag, u64 count) {
    u64 i = place();
    // The flag holds 1.0 or 0.0, whose bits are 0.
    if (i < count && !finite(value(x[i]))) atomicExch(flag, 0u);
}
BOTH(check_finite, P, (x, flag, count))
#undef P

KERNEL void ema_update(float* average, const float* parameters, const float* gate, u64 count, float share) {
    u64 i = place();
    if (i < count && gate[0] != 0.f) average[i] += share * (parameters[i] - average[i]);
}

// A run of the flat buffer that is stepped alike. `rate` is a factor on the learning rate, `first` the index of the first
// run of its tensor.
struct Run {
    u64 start;
    u32 length, first;
    float rate, decay;
};

enum { ADAMW, SGD, LION };

// What a step needs to know of its rule.
struct Rule {
    float rate, decay, beta1, beta2, epsilon, correct1, correct2;
    int kind, nesterov, first_step;
};

// One value: parameter, moments, gradient.
DEVICE void step_value(const Rule& rule, float& p, float& m, float& v, float g) {
    if (rule.kind == ADAMW) {
        m = rule.beta1 * m + (1.f - rule.beta1) * g;
        v = rule.beta2 * v + (1.f - rule.beta2) * g * g;
        p -= p * (rule.rate * rule.decay);
        p -= rule.rate * (m * rule.correct1) / (sqrtf(v * rule.correct2) + rule.epsilon);
    } else if (rule.kind == SGD) {
        g += rule.decay * p;
        m = rule.first_step ? g : rule.beta1 * m + g;
        p -= rule.rate * (rule.nesterov ? g + rule.beta1 * m : m);
    } else {
        float along = rule.beta1 * m + (1.f - rule.beta1) * g;
        float sign = along > 0.f ? 1.f : along < 0.f ? -1.f : along;
        p = (1.f - rule.rate * rule.decay) * p - rule.rate * sign;
        m = rule.beta2 * m + (1.f - rule.beta2) * g;
    }
}

// One step of what is stepped a value at a time; a block a run. `copy`, where it is there, gets the parameters in 16 bits.
KERNEL void step(const Run* runs, const float* gate, float* p, float* m, float* v, const float* g, half_t* copy,
                 int kind, float learning_rate, float beta1, float beta2, float epsilon, float correct1, float correct2,
                 int nesterov, int first_step) {
    if (gate[0] == 0.f) return;
    Run run = runs[blockIdx.x];
    Rule rule = {learning_rate * run.rate, run.decay, beta1, beta2, epsilon, correct1, correct2, kind, nesterov,
                 first_step};
    for (u32 i = threadIdx.x * 4; i < run.length; i += blockDim.x * 4) {
        u64 at = run.start + i;
        // A run may begin anywhere.
        if (i + 4 <= run.length && at % 4 == 0) {
            float4 P = *(const float4*)(p + at), M = *(const float4*)(m + at), V = {0.f, 0.f, 0.f, 0.f};
            float4 G = *(const float4*)(g + at);
            if (kind == ADAMW) V = *(const float4*)(v + at);
            step_value(rule, P.x, M.x, V.x, G.x);
            step_value(rule, P.y, M.y, V.y, G.y);
            step_value(rule, P.z, M.z, V.z, G.z);
            step_value(rule, P.w, M.w, V.w, G.w);
            *(float4*)(p + at) = P;
            *(float4*)(m + at) = M;
            if (kind == ADAMW) *(float4*)(v + at) = V;
            if (copy) *(uint2*)(copy + at) = make_uint2(pack(P.x, P.y), pack(P.z, P.w));
        } else {
            for (u64 k = at; k < at + 4 && k < run.start + run.length; k++) {
                float V = kind == ADAMW ? v[k] : 0.f;
                step_value(rule, p[k], m[k], V, g[k]);
                if (kind == ADAMW) v[k] = V;
                if (copy) copy[k] = rounded(p[k]);
            }
        }
    }
}

// LAMB, first half: moments, and Adam's step with decay added, in `along`. Sums of squares of parameters and of steps, two
// for each block.
KERNEL void lamb_moments(const Run* runs, const float* gate, const float* p, float* m, float* v, const float* g,
                         float* along, float* squares, float beta1, float beta2, float epsilon, float correct1,
                         float correct2) {
    __shared__ float room[32];
    if (gate[0] == 0.f) return;
    Run run = runs[blockIdx.x];
    float own = 0.f, stepped = 0.f;
    for (u32 i = threadIdx.x; i < run.length; i += blockDim.x) {
        u64 at = run.start + i;
        m[at] = beta1 * m[at] + (1.f - beta1) * g[at];
        v[at] = beta2 * v[at] + (1.f - beta2) * g[at] * g[at];
        float u = m[at] * correct1 / (sqrtf(v[at] * correct2) + epsilon) + run.decay * p[at];
        along[at] = u;
        own += p[at] * p[at];
        stepped += u * u;
    }
    own = block_sum(own, room);
    stepped = block_sum(stepped, room);
    if (threadIdx.x == 0) squares[2 * blockIdx.x] = own, squares[2 * blockIdx.x + 1] = stepped;
}
// LAMB, second half. `first` of a run is the index of its tensor's first run, and `tensors` has how many runs that tensor
// has there.
KERNEL void lamb_step(const Run* runs, const u32* tensors, const float* gate, float* p, const float* along,
                      const float* squares, half_t* copy, float learning_rate) {
    if (gate[0] == 0.f) return;
    Run run = runs[blockIdx.x];
    float own = 0.f, stepped = 0.f;
    for (u32 k = 0; k < tensors[run.first]; k++) {
        own += squares[2 * (run.first + k)];
        stepped += squares[2 * (run.first + k) + 1];
    }
    float trust = run.decay > 0.f && own > 0.f && stepped > 0.f ? sqrtf(own) / sqrtf(stepped) : 1.f;
    for (u32 i = threadIdx.x; i < run.length; i += blockDim.x) {
        u64 at = run.start + i;
        p[at] -= learning_rate * run.rate * trust * along[at];
        if (copy) copy[at] = rounded(p[at]);
    }
}

// Muon: the momentum, and the direction to be orthogonalized.
KERNEL void muon_momentum(const float* gate, float* m, const float* g, float* along, u64 count, float momentum,
                          int nesterov) {
    u64 i = place();
    if (i >= count) return;
    float moved = m[i] + (1.f - momentum) * (g[i] - m[i]);
    if (gate[0] != 0.f) m[i] = moved;
    along[i] = nesterov ? g[i] + momentum * (moved - g[i]) : moved;
}
// x / max(norm, 1e-7).
KERNEL void divide(float* x, const float* norm, u64 count) {
    u64 i = place();
    if (i < count) x[i] /= fmaxf(norm[0], 1e-7f);
}
// out = a · x + b · y.
KERNEL void mix(const float* x, const float* y, float* out, u64 count, float a, float b) {
    u64 i = place();
    if (i < count) out[i] = a * x[i] + b * y[i];
}
KERNEL void muon_step(const float* gate, float* p, const float* update, half_t* copy, u64 count, float keep,
                      float size) {
    u64 i = place();
    if (i >= count || gate[0] == 0.f) return;
    p[i] = keep * p[i] - size * update[i];
    if (copy) copy[i] = rounded(p[i]);
}
