/* What first_person.py and bodies.py draw, pixel for pixel, several rows of a column at a time.

   The same operations in the same order and precision; what differs is the shape of the loops. A frame is drawn column
   by column: terrain, then the bodies that may cover the column. Inner loops run over rows, free of branches, so that
   the compiler turns them into vector instructions. Names in capitals come from Python's constants and record layouts
   (native.py writes them above this file); floating point must not be contracted (-ffp-contract=off). */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define AT(type, record, offset) ((const type *)((record) + (offset)))

/* Rows are worked on LANES at a time, also a few outside of the picture or of what is asked for: arrays have margins. */
#define LANES 8
typedef struct { double x, y, eye, cos, sin, tan_pitch, slopes[H + 2 * LANES]; uint32_t sky[H]; } camera;
typedef struct { double depths[H + 2 * LANES]; uint32_t colours[H + 2 * LANES]; } column;
typedef struct { int k, shape; long first_u, last_u, first_v, last_v; double cx, cy, cz; const double *rgb; } body;

static inline double least(double a, double b) { return b < a ? b : a; }
static inline double most(double a, double b) { return b > a ? b : a; }
static inline uint32_t packed(double red, double green, double blue) {
    return (uint32_t)(int32_t)red | (uint32_t)(int32_t)green << 8 | (uint32_t)(int32_t)blue << 16;
}

static inline double height_on(const char *task, long size, long i, long j, double x, double y) {
    long cell = AT(int16_t, task, TASK_CELL)[i * size + j];
    double h = (double)(cell >> 3) * LEVEL_HEIGHT_M;
    double fx = least(most(x - (double)i, 0.0), 1.0), fy = least(most(y - (double)j, 0.0), 1.0);
    switch (cell & 7) {
    case NORTH: return h + fy * LEVEL_HEIGHT_M;
    case EAST: return h + fx * LEVEL_HEIGHT_M;
    case SOUTH: return h + (1.0 - fy) * LEVEL_HEIGHT_M;
    case WEST: return h + (1.0 - fx) * LEVEL_HEIGHT_M;
    default: return h;
    }
}

static inline long row_above(double slope, double tan_pitch) {
    double row = ceil(H / 2.0 - 0.5 - least(most(slope - tan_pitch, -4.0), 4.0) * FOCAL_PX);
    return row > 0.0 ? (long)row : 0;
}

static void paint_floor(const camera *c, int tile, double height, double dx, double dy, double enter, double leave,
                        double enter_height, double rise, long top, long end, column *out) {
    double brighter = LEVEL_BRIGHTER * height / LEVEL_HEIGHT_M;
    const double *rgb = FLOOR_RGB;
    if (tile >= NORTH && tile <= WEST) rgb = RAMP_RGB;
    else if (tile == PIT) rgb = PIT_RGB, brighter = 0.0;
    else if (tile == WALL) rgb = WALL_RGB, brighter = 20.0;
    const double red = rgb[0] + brighter, green = rgb[1] + brighter, blue = rgb[2] + brighter;
    const double base = enter_height - rise * enter - c->eye, x = c->x, y = c->y;
    for (long v = end - LANES; v > top - LANES; v -= LANES) { /* rows above the top are painted over later */
        const double *slope = c->slopes + LANES + v;
        double *depth = out->depths + LANES + v;
        uint32_t *colour = out->colours + LANES + v;
        for (int n = 0; n < LANES; n++) {
            double steep = slope[n] - rise;
            double d = fabs(steep) > 1e-9 ? base / steep : leave;
            d = least(most(d, enter), leave);
            int checker = ((int)(2.0 * (x + d * dx)) + (int)(2.0 * (y + d * dy))) & 1;
            double light = (checker ? 1.0 : 0.86) / (1.0 + FOG_PER_M * d);
            depth[n] = d;
            colour[n] = packed(least(red * light, 255.0), least(green * light, 255.0), least(blue * light, 255.0));
        }
    }
}

static void paint_side(const camera *c, int tile, double d, double along, int across_i, long top, long end,
                       column *out) {
    const double *rgb = tile == WALL ? WALL_RGB : CLIFF_RGB;
    double light = (across_i ? 0.95 : 0.75) / (1.0 + FOG_PER_M * d), dim = light * 0.88;
    const uint32_t bright = packed(rgb[0] * light, rgb[1] * light, rgb[2] * light);
    const uint32_t dark = packed(rgb[0] * dim, rgb[1] * dim, rgb[2] * dim);
    int brick = (int)(2.0 * along);
    for (long v = end - LANES; v > top - LANES; v -= LANES) {
        const double *slope = c->slopes + LANES + v;
        double *depth = out->depths + LANES + v;
        uint32_t *colour = out->colours + LANES + v;
        for (int n = 0; n < LANES; n++) {
            int course = (int)(4.0 * (c->eye + slope[n] * d) + 400.0);
            depth[n] = d;
            colour[n] = (course + brick) & 1 ? bright : dark;
        }
    }
}

static void draw_terrain(const camera *c, const char *task, long u, column *out) {
    const long size = *AT(int64_t, task, TASK_SIZE);
    const int16_t *cells = AT(int16_t, task, TASK_CELL);
    double a = (W / 2.0 - (double)u - 0.5) / FOCAL_PX;
    double dx = c->cos - a * c->sin, dy = c->sin + a * c->cos;
    long i = (long)c->x, j = (long)c->y, step_i = dx > 0 ? 1 : -1, step_j = dy > 0 ? 1 : -1;
    double per_i = fabs(dx) > 1e-12 ? 1.0 / fabs(dx) : FAR, per_j = fabs(dy) > 1e-12 ? 1.0 / fabs(dy) : FAR;
    double next_i = (dx > 0 ? (double)(i + 1) - c->x : c->x - (double)i) * per_i;
    double next_j = (dy > 0 ? (double)(j + 1) - c->y : c->y - (double)j) * per_j;
    double enter = NEAR_M, enter_height = height_on(task, size, i, j, c->x, c->y);
    long filled = H;
    while (filled > 0) {
        double leave = most(least(next_i, next_j), enter);
        double at_x = c->x + leave * dx, at_y = c->y + leave * dy;
        double leave_height = height_on(task, size, i, j, at_x, at_y);
        long top = row_above((leave_height - c->eye) / most(leave, NEAR_M), c->tan_pitch);
        if (top < filled) {
            double rise = leave - enter > 1e-9 ? (leave_height - enter_height) / (leave - enter) : 0.0;
            int cell = cells[i * size + j];
            paint_floor(c, cell & 7, (double)(cell >> 3) * LEVEL_HEIGHT_M, dx, dy, enter, leave, enter_height, rise,
                        top, filled, out);
            filled = top;
        }
        int across_i = next_i < next_j;
        double along = across_i ? at_y : at_x;
        if (across_i) i += step_i, next_i += per_i;
        else j += step_j, next_j += per_j;
        if (i < 0 || j < 0 || i >= size || j >= size) break;
        enter = leave;
        enter_height = height_on(task, size, i, j, at_x, at_y);
        if (enter_height > leave_height) {
            top = row_above((enter_height - c->eye) / most(leave, NEAR_M), c->tan_pitch);
            if (top < filled) {
                paint_side(c, cells[i * size + j] & 7, leave, along, across_i, top, filled, out);
                filled = top;
            }
        }
    }
    for (long v = 0; v < filled; v++) out->depths[LANES + v] = FAR, out->colours[LANES + v] = c->sky[v];
}

/* Narrow (near, far) to where start + d * rate <= 0. */
static inline void clip(double rate, double start, double *near, double *far) {
    double d = -start / rate;
    int level = fabs(rate) < 1e-12, outside = level & (start > 0);
    double far_if_up = rate > 0 ? least(*far, d) : *far, near_if_down = rate > 0 ? *near : most(*near, d);
    *near = outside ? FAR : level ? *near : near_if_down;
    *far = outside ? -FAR : level ? *far : far_if_up;
}

static void hit_box(const body *b, const camera *c, double dx, double dy, double *depth, double *light, long rows) {
    const double hx = HALF[b->shape][0], hy = HALF[b->shape][1], hz = HALF[b->shape][2], cz = b->cz;
    double near_x = -FAR, far_x = FAR, near_y = -FAR, far_y = FAR;
    clip(dx, -b->cx - hx, &near_x, &far_x);
    clip(-dx, b->cx - hx, &near_x, &far_x);
    clip(dy, -b->cy - hy, &near_y, &far_y);
    clip(-dy, b->cy - hy, &near_y, &far_y);
    const double near_xy = most(near_x, near_y), far_xy = least(far_x, far_y);
    const double side = near_x >= near_y ? LIGHT[0] : LIGHT[1];
    const double *slope = c->slopes + LANES + b->first_v;
    for (long v = 0; v < rows; v++) {
        double dz = slope[v], near_z = -FAR, far_z = FAR;
        clip(dz, -cz - hz, &near_z, &far_z);
        clip(-dz, cz - hz, &near_z, &far_z);
        double near = most(near_xy, near_z);
        depth[v] = near > least(far_xy, far_z) ? MISS : near;
        light[v] = near == near_xy ? side : LIGHT[2];
    }
}

static void hit_pyramid(const body *b, const camera *c, double dx, double dy, double *depth, double *light, long rows) {
    const double half = HALF[PYRAMID][0], tilt = half / (2.0 * HALF[PYRAMID][2]), high = HALF[PYRAMID][2];
    const double cx = b->cx, cy = b->cy, cz = b->cz, level = -cz * tilt - half / 2.0;
    const double *slope = c->slopes + LANES + b->first_v;
    for (long v = 0; v < rows; v++) {
        double dz = slope[v];
        double near_x = -FAR, far_x = FAR, near_y = -FAR, far_y = FAR, near_z = -FAR, far_z = FAR;
        clip(dx + tilt * dz, -cx + level, &near_x, &far_x);
        clip(-dx + tilt * dz, cx + level, &near_x, &far_x);
        clip(dy + tilt * dz, -cy + level, &near_y, &far_y);
        clip(-dy + tilt * dz, cy + level, &near_y, &far_y);
        clip(-dz, cz - high, &near_z, &far_z);
        double near = most(most(near_x, near_y), near_z);
        depth[v] = near > least(least(far_x, far_y), far_z) ? MISS : near;
        light[v] = near == near_x ? LIGHT[0] : LIGHT[1];
    }
}

static void hit_sphere(const body *b, const camera *c, double dx, double dy, double *depth, double *light, long rows) {
    const double radius = HALF[SPHERE][2], cx = b->cx, cy = b->cy, cz = b->cz;
    const double flat_a = dx * dx + dy * dy, flat_b = dx * cx + dy * cy;
    const double q = cx * cx + cy * cy + cz * cz - radius * radius;
    const double *slope = c->slopes + LANES + b->first_v;
    for (long v = 0; v < rows; v++) {
        double dz = slope[v], a = flat_a + dz * dz, half_b = flat_b + dz * cz;
        double root = half_b * half_b - a * q;
        double d = (half_b - sqrt(root > 0 ? root : 0.0)) / a;
        depth[v] = root <= 0 ? MISS : d;
        light[v] = 0.75 + 0.25 * (d * dz - cz) / radius;
    }
}

static void hit_cylinder(const body *b, const camera *c, double dx, double dy, double *depth, double *light, long rows) {
    const double radius = HALF[PLAYER][0], high = HALF[PLAYER][2], cx = b->cx, cy = b->cy, cz = b->cz;
    const double a = dx * dx + dy * dy, half_b = dx * cx + dy * cy;
    const double root = half_b * half_b - a * (cx * cx + cy * cy - radius * radius);
    const double mantle = (half_b - sqrt(root > 0 ? root : 0.0)) / a, back = (half_b + sqrt(root > 0 ? root : 0.0)) / a;
    const double *slope = c->slopes + LANES + b->first_v;
    for (long v = 0; v < rows; v++) {
        double dz = slope[v], near = mantle, far = back;
        clip(dz, -cz - high, &near, &far);
        clip(-dz, cz - high, &near, &far);
        depth[v] = root <= 0 || near > far ? MISS : near;
        light[v] = near > mantle ? LIGHT[2] : 0.7 + 0.2 * fabs(cy - near * dy) / radius;
    }
}

static void draw_body(const camera *c, const char *world, const body *b, long u, column *out) {
    double a = (W / 2.0 - (double)u - 0.5) / FOCAL_PX, dx = c->cos - a * c->sin, dy = c->sin + a * c->cos;
    double depth[H + LANES], light[H + LANES];
    const long rows = (b->last_v - b->first_v + LANES) / LANES * LANES; /* a few below what was asked for */
    if (b->shape == SPHERE) hit_sphere(b, c, dx, dy, depth, light, rows);
    else if (b->shape == PYRAMID) hit_pyramid(b, c, dx, dy, depth, light, rows);
    else if (b->shape == PLAYER) hit_cylinder(b, c, dx, dy, depth, light, rows);
    else hit_box(b, c, dx, dy, depth, light, rows);
    const double red = b->rgb[0], green = b->rgb[1], blue = b->rgb[2];
    const double *slope = c->slopes + LANES + b->first_v;
    const long last = b->last_v - b->first_v;
    double *drawn = out->depths + LANES + b->first_v;
    uint32_t *colour = out->colours + LANES + b->first_v;
    const int is_player = b->shape == PLAYER;
    const double facing_x = is_player ? AT(double, world, WORLD_COS_YAW)[b->k] : 0.0;
    const double facing_y = is_player ? AT(double, world, WORLD_SIN_YAW)[b->k] : 0.0;
    for (long v = 0; v < rows; v++) {
        int seen = (v <= last) & (depth[v] >= NEAREST_M) & (depth[v] < drawn[v]);
        double d = seen ? depth[v] : 1.0, shade = (seen ? light[v] : 0.0) / (1.0 + FOG_PER_M * d);
        double across = (d * dx - b->cx) * facing_x + (d * dy - b->cy) * facing_y;
        int visor = is_player & (across > VISOR_M) & (d * slope[v] > b->cz + 0.1);
        double r = visor ? VISOR_RGB[0] : red, g = visor ? VISOR_RGB[1] : green, l = visor ? VISOR_RGB[2] : blue;
        uint32_t painted = packed(r * shade, g * shade, l * shade);
        drawn[v] = seen ? d : drawn[v];
        colour[v] = seen ? painted : colour[v];
    }
}

/* Set the columns and rows, first and last, that a body may cover; the whole picture if it is close. */
static void set_bounds(body *b, double ahead, double left, double reach, double tan_pitch) {
    double near = ahead - reach, far = ahead + reach, half_z = HALF[b->shape][2];
    b->first_u = 0, b->last_u = W - 1, b->first_v = 0, b->last_v = H - 1;
    if (near < 0.15) return;
    double most_left = most((left + reach) / near, (left + reach) / far);
    double most_right = least((left - reach) / near, (left - reach) / far);
    double most_up = most((b->cz + half_z) / near, (b->cz + half_z) / far) - tan_pitch;
    double most_down = least((b->cz - half_z) / near, (b->cz - half_z) / far) - tan_pitch;
    long first_u = (long)(W / 2.0 - 0.5 - most_left * FOCAL_PX), last_u = (long)(W / 2.0 + 0.5 - most_right * FOCAL_PX);
    long first_v = (long)(H / 2.0 - 0.5 - most_up * FOCAL_PX), last_v = (long)(H / 2.0 + 0.5 - most_down * FOCAL_PX);
    if (first_u > 0) b->first_u = first_u;
    if (last_u < W - 1) b->last_u = last_u;
    if (first_v > 0) b->first_v = first_v;
    if (last_v < H - 1) b->last_v = last_v;
}

static int find_bodies(const camera *c, const char *world, int p, body *bodies) {
    const double *position = AT(double, world, WORLD_POSITION);
    const int8_t *kinds = AT(int8_t, world, WORLD_KIND);
    int used = (int)*AT(int64_t, world, WORLD_USED), count = 0;
    for (int k = 0; k < used; k++) {
        if (kinds[k] < 0 || k == p) continue;
        body *b = &bodies[count];
        b->k = k, b->shape = kinds[k] / 3;
        b->cx = position[3 * k] - position[3 * p];
        b->cy = position[3 * k + 1] - position[3 * p + 1];
        b->cz = position[3 * k + 2] - position[3 * p + 2] - EYE_ABOVE_CENTRE_M;
        b->rgb = k < FIRST_OBJECT ? PLAYER_RGB[k] : OBJECT_RGB[kinds[k] % 3];
        double ahead = b->cx * c->cos + b->cy * c->sin, left = b->cy * c->cos - b->cx * c->sin;
        double reach = REACH_M[b->shape];
        if (ahead < -reach) continue;
        set_bounds(b, ahead, left, reach, c->tan_pitch);
        count += b->first_u <= b->last_u && b->first_v <= b->last_v;
    }
    return count;
}

static void draw_frame(const char *world, const char *task, int p, uint8_t *frame) {
    static _Thread_local uint32_t canvas[W][H];
    camera c;
    column out;
    body bodies[MAX_BODIES + 1];
    const double *position = AT(double, world, WORLD_POSITION) + 3 * p;
    c.x = position[0], c.y = position[1], c.eye = position[2] + EYE_ABOVE_CENTRE_M;
    c.cos = AT(double, world, WORLD_COS_YAW)[p], c.sin = AT(double, world, WORLD_SIN_YAW)[p];
    c.tan_pitch = AT(double, world, WORLD_TAN_PITCH)[p];
    for (int v = -LANES; v < H + LANES; v++) c.slopes[LANES + v] = (H / 2.0 - v - 0.5) / FOCAL_PX + c.tan_pitch;
    for (int v = 0; v < H; v++) {
        c.sky[v] = packed(SKY_RGB[0] - v * 0.5, SKY_RGB[1] - v * 0.5, SKY_RGB[2] - v * 0.5);
    }
    int count = find_bodies(&c, world, p, bodies);
    for (long u = 0; u < W; u++) {
        draw_terrain(&c, task, u, &out);
        for (int n = 0; n < count; n++)
            if (u >= bodies[n].first_u && u <= bodies[n].last_u) draw_body(&c, world, &bodies[n], u, &out);
        memcpy(canvas[u], out.colours + LANES, sizeof canvas[u]);
    }
    for (int v = 0; v < H; v++) {
        uint8_t *row = frame + 3 * W * v;
        for (int u = 0; u < W - 1; u++) memcpy(row + 3 * u, &canvas[u][v], 4); /* the fourth byte is overwritten next */
        memcpy(row + 3 * (W - 1), &canvas[W - 1][v], 3);
    }
}

/* Draw what the players of the chosen worlds see: frames uint8 [count, players, H, W, 3]; black where none runs. */
void draw_worlds(const char *worlds, const char *tasks, const int64_t *chosen, int64_t count, int64_t players,
                 uint8_t *frames) {
    for (int64_t n = 0; n < count; n++) {
        const char *world = worlds + chosen[n] * WORLD_SIZE, *task = tasks + chosen[n] * TASK_SIZE_BYTES;
        for (int64_t p = 0; p < players; p++, frames += 3 * W * H) {
            if (*AT(int64_t, world, WORLD_ACTIVE)) draw_frame(world, task, (int)p, frames);
            else memset(frames, 0, 3 * W * H);
        }
    }
}
