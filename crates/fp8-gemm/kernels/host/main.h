// Reads operands, grid and parameters; runs the clusters of the grid in random order; writes the operands back. Each
// begins while the kernel in front is still running: what that one gives, or still reads, is not there yet.
namespace host {
struct Parameter {
  TMap map;
  u8* pointer;
  u32 number;
  operator TMap() const { return map; }
  operator u32() const { return number; }
  template <class T> operator T*() const { return (T*)pointer; }
};
static std::vector<Parameter> p;

static void thread_body() {
  CALL;
  current->ended = true;
  --alive[current->cta];
  ++progress;
  swapcontext(&current->context, &scheduler);
}

template <class T> static T read() {
  T v;
  if (fread(&v, sizeof v, 1, stdin) != 1) fail("input ends early");
  return v;
}

// An operand that the kernel in front writes or still uses: its bytes once that has ended. To each cluster in turn it has not, for a while.
struct Late { u8* at; std::vector<u8> bytes; };
static std::vector<Late> late;

static void begin_previous() {
  for (Late& l : late) {
    memcpy(l.bytes.data(), l.at, l.bytes.size());
    memset(l.at, 0xff, l.bytes.size());
  }
  previous_done = false;
}

static void end_previous() {
  for (const Late& l : late) memcpy(l.at, l.bytes.data(), l.bytes.size());
  previous_done = true;
  ++progress;
}

static void run_cluster(u32 cluster) {
  static std::vector<u8> stacks;
  const size_t stack = 1 << 16;
  const u32 threads = block_threads * cluster_blocks;
  stacks.resize(threads * stack);
  memset(shared, 0xff, sizeof shared);  // NaN as a code, as BF16 and as f32
  barriers.clear();
  gates.clear();
  copies.clear();
  fibers.clear();
  fibers.resize(threads);
  alive.assign(cluster_blocks, block_threads);
  begin_previous();
  for (u32 t = 0; t < threads; ++t) {
    Fiber& f = fibers[t];
    f.thread = {t % block_threads, 0, 0};
    f.cta = t / block_threads;
    const u32 b = cluster * cluster_blocks + f.cta;
    f.block = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    f.ended = false;
    f.waits = NOTHING;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = &stacks[t * stack];
    f.context.uc_stack.ss_size = stack;
    f.context.uc_link = nullptr;
    makecontext(&f.context, thread_body, 0);
  }
  u32 slow = 0;  // a block that lags behind the others
  for (u32 round = 0;; ++round) {
    const u64 before = progress;
    bool running = false, skipped = false;
    if (round % 512 == 0) slow = random_below(cluster_blocks + 1);
    const u32 first = random_below(threads);
    for (u32 i = 0; i < threads; ++i) {
      Fiber& f = fibers[(first + i) % threads];
      if (f.ended) continue;
      running = true;
      if (!ready(f)) continue;
      // A thread may lag behind for some rounds, and a whole block for more.
      if (random_below(4) == 0 || (cluster_blocks > 1 && f.cta == slow && random_below(8))) {
        skipped = true;
        continue;
      }
      current = &f;
      swapcontext(&scheduler, &f.context);
    }
    const u32 arriving = copies.empty() ? 0 : 1 + random_below((u32)copies.size());
    for (u32 i = 0; i < arriving && (progress == before || random_below(2)); ++i) {
      const u32 which = random_below((u32)copies.size());
      const Copy c = copies[which];
      copies.erase(copies.begin() + which);
      bring(c);
    }
    const bool stuck = progress == before && !skipped;
    if (!previous_done && (stuck || random_below(16) == 0)) end_previous();
    if (!running) break;
    if (progress == before && !skipped) fail("deadlock");
  }
  if (!copies.empty()) fail("copies are left over");
  if (!previous_done) end_previous();
}
}  // namespace host

int main() {
  using namespace host;
  std::vector<std::vector<u8>> operands(read<u32>());
  std::vector<u8> kind(operands.size());  // 0 bytes, 1 a table, 2 bytes that the kernel in front gives or uses
  for (size_t i = 0; i < operands.size(); ++i) {
    kind[i] = read<u8>();
    operands[i].resize(read<u64>());
    if (!operands[i].empty() && fread(operands[i].data(), operands[i].size(), 1, stdin) != 1) fail("input ends early");
  }
  for (size_t i = 0; i < operands.size(); ++i)  // tables of operands become tables of their addresses
    for (size_t at = 0; kind[i] == 1 && at < operands[i].size(); at += 8) {
      u64 which;
      memcpy(&which, &operands[i][at], 8);
      const u64 address = (u64)(uintptr_t)operands[which].data();
      memcpy(&operands[i][at], &address, 8);
    }
  grid.x = read<u32>();
  grid.y = read<u32>();
  grid.z = read<u32>();
  block_threads = read<u32>();
  cluster_blocks = read<u32>();
  if (cluster_blocks > MOST_BLOCKS || grid.x % cluster_blocks) fail("a grid that is no whole clusters");
  random_state = read<u64>();
  p.resize(read<u32>());
  for (Parameter& q : p) {
    const u8 form = read<u8>();
    const u32 value = read<u32>();
    q.number = value;
    q.pointer = form < 2 && value != 0xffffffffu ? operands[value].data() : nullptr;
    if (form == 0) {
      q.map.data = q.pointer;
      q.map.bytes = read<u32>();
      q.map.rows = read<u64>();
      q.map.cols = read<u64>();
      q.map.stride = read<u64>();
      q.map.box_rows = read<u32>();
      q.map.box_cols = read<u32>();
      q.map.swizzled = read<u32>();
    }
  }
  for (size_t i = 0; i < operands.size(); ++i)
    if (kind[i] == 2) {
      late.push_back({operands[i].data(), operands[i]});
    }
  std::vector<u32> order(grid.x * grid.y * grid.z / cluster_blocks);
  for (u32 i = 0; i < order.size(); ++i) order[i] = i;
  for (u32 i = (u32)order.size(); i > 1; --i) std::swap(order[i - 1], order[random_below(i)]);
  for (u32 cluster : order) run_cluster(cluster);
  for (size_t i = 0; i < operands.size(); ++i)
    if (kind[i] != 1 && !operands[i].empty()) fwrite(operands[i].data(), operands[i].size(), 1, stdout);
  return 0;
}
