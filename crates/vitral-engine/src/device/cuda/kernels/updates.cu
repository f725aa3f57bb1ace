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

// One step of what is stepped a value at a time; a block a run. `copy`, where it is there, gets the parameters in 16 bits.
KERNEL void step(const Run* runs, const float* gate, float* p, float* m, float* v, const float* g, half_t* copy,
                 int rule, float learning_rate, float beta1, float beta2, float epsilon, float correct1, float correct2,
                 int nesterov, int first_step) {
    if (gate[0] == 0.f) return;
    Run run = runs[blockIdx.x];
    float rate = learning_rate * run.rate, decay = run.decay;
    for (u32 i = threadIdx.x * 4; i < run.length; i += blockDim.x * 4) {
        u64 at = run.start + i;
        int left = run.length - i < 4 ? (int)(run.length - i) : 4;
        // A run may begin anywhere.
        bool four = left == 4 && at % 4 == 0;
        float P[4], M[4], V[4], G[4];
        if (four) {
            float4 a = *(const float4*)(p + at), b = *(const float4*)(m + at), d = *(const float4*)(g + at);
            P[0] = a.x, P[1] = a.y, P[2] = a.z, P[3] = a.w;
            M[0] = b.x, M[1] = b.y, M[2] = b.z, M[3] = b.w;
            G[0] = d.x, G[1] = d.y, G[2] = d.z, G[3] = d.w;
            if (rule == ADAMW) {
                float4 c = *(const float4*)(v + at);
                V[0] = c.x, V[1] = c.y, V[2] = c.z, V[3] = c.w;
            }
        } else {
            for (int j = 0; j < left; j++) {
                P[j] = p[at + j], M[j] = m[at + j], G[j] = g[at + j];
                if (rule == ADAMW) V[j] = v[at + j];
            }
        }
        for (int j = 0; j < left; j++) {
            if (rule == ADAMW) {
                M[j] = beta1 * M[j] + (1.f - beta1) * G[j];
                V[j] = beta2 * V[j] + (1.f - beta2) * G[j] * G[j];
                P[j] -= P[j] * (rate * decay);
                P[j] -= rate * (M[j] * correct1) / (sqrtf(V[j] * correct2) + epsilon);
            } else if (rule == SGD) {
                float grad = G[j] + decay * P[j];
                M[j] = first_step ? grad : beta1 * M[j] + grad;
                P[j] -= rate * (nesterov ? grad + beta1 * M[j] : M[j]);
            } else {
                float along = beta1 * M[j] + (1.f - beta1) * G[j];
                float sign = along > 0.f ? 1.f : along < 0.f ? -1.f : along;
                P[j] = (1.f - rate * decay) * P[j] - rate * sign;
                M[j] = beta2 * M[j] + (1.f - beta2) * G[j];
            }
        }
        if (four) {
            *(float4*)(p + at) = make_float4(P[0], P[1], P[2], P[3]);
            *(float4*)(m + at) = make_float4(M[0], M[1], M[2], M[3]);
            if (rule == ADAMW) *(float4*)(v + at) = make_float4(V[0], V[1], V[2], V[3]);
            if (copy) *(uint2*)(copy + at) = make_uint2(pack(P[0], P[1]), pack(P[2], P[3]));
        } else {
            for (int j = 0; j < left; j++) {
                p[at + j] = P[j], m[at + j] = M[j];
                if (rule == ADAMW) v[at + j] = V[j];
                if (copy) copy[at + j] = rounded(P[j]);
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
